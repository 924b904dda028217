-- A browser's request, and what wrk found as one line of JSON.
wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
wrk.headers["Accept-Language"] = "en-US,en;q=0.5"

function done(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.write(string.format(
    '\n{"rps": %.3f, "p50_ms": %.4f, "p99_ms": %.4f, "p999_ms": %.4f, "errors": %d, "requests": %d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, bad, summary.requests))
end
