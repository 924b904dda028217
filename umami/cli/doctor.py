"""`umami doctor`: finds out why no events arrive, step by step."""

import argparse
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from umami._clock import monotonic

from . import _logins
from ._client import add_server, connected, resolved_settings, server_url
from ._diagnosis import SUPPORTED, Diagnosis, of_heartbeat, of_server
from ._errors import FAILED, OK, CommandError
from ._output import add_formats, colored, say, show_json

if TYPE_CHECKING:
    from umami import Client
    from umami.settings import Settings

NAME: Final = "doctor"
SUMMARY: Final = "check the settings, the network, the server and one send"
USAGE: Final = "umami doctor [--no-send] [--json] [options]"
DESCRIPTION: Final = """\
Checks, one after another, all that an event needs to arrive: settings, proxies, DNS, TLS, the server's
answers, its clock, what it can store, the login or API key, the website, and a send. Each line says "ok", or
what to do. The exit code is 0 if events can arrive, and 1 if not; "note" marks what may be meant so.

The send is an event named "umami doctor" with the tag "test". A second one, as a bot's, shows whether the
server drops those.
"""
EXAMPLES: Final = """\
umami doctor
umami doctor --server https://umami.example.com --no-send   # stores nothing
umami doctor --json
"""

_MOST_SKEW: Final = 60.0
_COLORS: Final = {"ok": "green", "note": "yellow", "FAIL": "red", "-": "dim"}


class Line(NamedTuple):
    """What one check found: `ok`, `note`, `FAIL`, or `-` if it was not made."""

    check: str
    result: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--no-send", action="store_true", help="send no event")
    parser.add_argument("--website", metavar="ID", help="the website's id (default: UMAMI_WEBSITE_ID)")
    add_formats(parser, csv=False)
    add_server(parser)


def run(arguments: argparse.Namespace) -> int:
    """Makes the checks."""
    lines = []
    own = {} if arguments.website is None else {"website_id": arguments.website}
    options = {"retry_limit": 1, "flush_interval": 0, "shutdown_timeout": 0, "enabled": True}
    with connected(arguments, **options, **own) as client:
        given = {} if arguments.server is None else {"url_base": arguments.server}
        for line in _checks(client, resolved_settings({**given, **own}), send=not arguments.no_send):
            lines.append(line)
            if not arguments.json:
                say_line(line)
    if arguments.json:
        show_json([line._asdict() for line in lines])
    return FAILED if any(line.result == "FAIL" for line in lines) else OK


def say_line(line: Line) -> None:
    """Prints a line, its result in colour."""
    print(colored(f"{line.result:4}", _COLORS[line.result]), end="  ")
    say(f"{line.check:10}  {line.text}")


def _checks(client: "Client", settings: "Settings", *, send: bool) -> Iterator[Line]:
    url = server_url(client)
    cloud = url == "Umami Cloud"
    parts = urlsplit("https://cloud.umami.is" if cloud else url)
    host = parts.hostname or ""
    yield _url(url, parts.scheme, host)
    if not settings.enabled:
        yield Line("disabled", "note", "UMAMI_DISABLED is set: only this command sends events")
    proxy = _proxy(settings, parts.scheme, host)
    yield Line("proxy", "ok", f"through {proxy}" if proxy else "none")
    if proxy is None:
        line = _dns(host)
        yield line
        if line.result == "FAIL":
            return
    seen, diagnosis, response = of_heartbeat(client, cloud=cloud)
    if parts.scheme == "https":
        yield _tls(settings, diagnosis)
    if diagnosis.check != "TLS":
        yield Line("server", "FAIL" if diagnosis.text else "ok", diagnosis.text or seen)
    if diagnosis.text:
        return
    yield _clock(response)
    may_batch = False
    if not cloud:
        server, batches = of_server(client, response)
        yield Line("version", *server)
        yield Line("batches", *batches)
        may_batch = batches == SUPPORTED
    credential = _credential(client, settings)
    yield credential
    website = _website(client, settings, is_logged_in=credential.result == "ok")
    yield website
    if not settings.hostname:
        yield Line("host name", "note", "none is set: set UMAMI_HOSTNAME, or pass hostname= to each send")
    if not send or website.result == "FAIL":
        yield Line("send", "-", "not tried: --no-send" if not send else "not tried")
        return
    yield from _sends(client, settings, may_batch=may_batch)


def _url(url: str, scheme: str, host: str) -> Line:
    local = host in ("localhost", "::1") or host.startswith("127.")
    if scheme == "http" and not local:
        return Line("URL", "note", f"{url} is not encrypted: use https:// if the server has it")
    return Line("URL", "ok", url)


def _proxy(settings: "Settings", scheme: str, host: str) -> str | None:
    """Returns the proxy's URL without its password: the setting's, or the one that the environment names."""
    proxy = settings.proxy
    if proxy is None:
        import urllib.request

        proxies = urllib.request.getproxies()
        proxy = proxies.get(scheme) or proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(host):
            return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _dns(host: str) -> Line:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        return Line("DNS", "FAIL", f"{host}: {what}: is the name right, and does this machine have DNS?")
    addresses = sorted({str(each[4][0]) for each in found})
    return Line("DNS", "ok", f"{host} is {', '.join(addresses[:4])}")


def _tls(settings: "Settings", diagnosis: Diagnosis) -> Line:
    if diagnosis.check == "TLS":
        return Line("TLS", "FAIL", diagnosis.text)
    if diagnosis.check == "connection":
        return Line("TLS", "-", "not tried")
    if settings.verify is False:
        return Line(
            "TLS", "note", "UMAMI_VERIFY is off: certificates are not checked, so anyone can listen in"
        )
    return Line("TLS", "ok", "the certificate is valid")


def _clock(response: Any) -> Line:
    from email.utils import parsedate_to_datetime

    try:
        skew = time.time() - parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return Line("clock", "-", "the server does not say what time it is")
    if abs(skew) <= _MOST_SKEW:
        return Line("clock", "ok", "as the server's, within a minute")
    way = "ahead of" if skew > 0 else "behind"
    return Line(
        "clock",
        "FAIL",
        f"this machine is {abs(skew):,.0f} s {way} the server, which misdates events: set its clock by NTP",
    )


def _credential(client: "Client", settings: "Settings") -> Line:
    if not client.is_logged_in():
        try:
            _logins.find(server_url(client))
        except CommandError as error:
            return Line("login", "note", f"{error}. Sends need none")
        return Line("login", "-", "none: sends need none; for websites and stats, run `umami login`")
    what = "login" if settings.api_key is None else "API key"
    if client.verify_token():
        return Line(what, "ok", "accepted")
    todo = "run `umami login`" if settings.api_key is None else "check UMAMI_API_KEY"
    return Line(what, "FAIL", f"the server does not accept it: {todo}")


def _website(client: "Client", settings: "Settings", *, is_logged_in: bool) -> Line:
    import uuid

    website = settings.website_id
    if not website:
        return Line("website", "FAIL", "none is set: set UMAMI_WEBSITE_ID (`umami websites` lists the ids)")
    try:
        uuid.UUID(website)
    except ValueError:
        return Line("website", "FAIL", f"{website} is no UUID, as ids are: see `umami websites`")
    if not is_logged_in:
        return Line("website", "ok", f"{website}, not looked up without a login")
    import httpx

    try:
        found = [each for each in client.websites() if each.id == website.lower()]
    except httpx.HTTPError as error:
        return Line("website", "note", f"{website}, not looked up: {error}")
    if not found:
        return Line("website", "FAIL", f"{website} is none of this login's: `umami websites` lists them")
    return Line("website", "ok", f"{website} is {found[0].name or found[0].domain}")


def _sends(client: "Client", settings: "Settings", *, may_batch: bool) -> Iterator[Line]:
    """Sends an event as a browser's, and one as a bot's."""
    started = monotonic()
    hostname = settings.hostname or "umami-doctor.invalid"
    fields: dict[str, Any] = {"hostname": hostname, "tag": "test", "custom_data": {"test": "yes"}}
    client.new_event("umami doctor", **fields)
    client.flush(timeout=3 * settings.timeout)
    stats = client.queue_stats()
    if not stats.delivered:
        yield Line("send", "FAIL", stats.last_error or "no answer yet: see --timeout")
        return
    yield Line("send", "ok", f"stored in {1000 * (monotonic() - started):,.0f} ms: {stats.server}")
    if may_batch and "one event a request" in (stats.server or ""):  # an empty batch did not show that
        yield Line("batches", "note", "they do not work: Umami 2.17 to 3.0.1 needs Node.js 18 to 22 for them")
    client.new_event("umami doctor", ua="curl/8.5.0", **fields)
    client.flush(timeout=3 * settings.timeout)
    after = client.queue_stats()
    if after.rejected:
        yield Line("bots", "ok", "the server drops events with a bot's User-Agent: pass the visitor's as ua=")
    elif after.delivered > stats.delivered:
        yield Line("bots", "ok", "the server stores events of bots too")
    else:
        yield Line("bots", "note", after.last_error or "no answer yet: see --timeout")
