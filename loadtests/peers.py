"""The peers: other clients, each configured as its documentation recommends, with the sink as server.

Each is installed in an environment of its own, so its package is only imported when a peer is created.
"""

import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from .subjects import (
    CUSTOM,
    SITE,
    USER,
    Floor,
    FloorPair,
    FloorServing,
    FloorThreads,
    Nothing,
    Ours,
    OursSpooled,
    Send,
    Subject,
    typical,
)

_PAGE: Final[dict[str, Any]] = {"url": "/checkout", "title": "Checkout", **CUSTOM}


class PostHog(Subject):
    """`posthog`: a queue and a thread, batches of 100."""

    def start(self) -> None:
        """Make a client."""
        options: dict[str, Any] = {"flush_at": self.batch} if self.batch else {}
        self.client: Any = importlib.import_module("posthog").Posthog(
            "phc_loadtest", host=self.url, max_queue_size=max(self.room, self.wanted_room), **options
        )

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `capture`."""
        capture = self.client.capture
        return lambda: capture("checkout", distinct_id=USER, properties=_PAGE)

    def flush(self) -> None:
        """Flush, without the default timeout of ten seconds."""
        self.client.flush(timeout_seconds=120)


class Segment(Subject):
    """`segment-analytics-python`: a queue and a thread, batches of 100."""

    def start(self) -> None:
        """Make a client."""
        options: dict[str, Any] = {"upload_size": self.batch} if self.batch else {}
        self.client: Any = importlib.import_module("segment.analytics.client").Client(
            "write-key", host=self.url, max_queue_size=max(self.room, self.wanted_room), **options
        )

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `track`."""
        track = self.client.track
        return lambda: track(USER, "checkout", _PAGE)

    def flush(self) -> None:
        """Flush."""
        self.client.flush()


class SentryLogs(Subject):
    """`sentry-sdk`'s structured logs: batches of 100; events beyond 1,000 are dropped."""

    room = 900

    def start(self) -> None:
        """Initialise the SDK."""
        self.sdk: Any = importlib.import_module("sentry_sdk")
        self.logger: Any = importlib.import_module("sentry_sdk.logger")
        host = urlsplit(self.url).netloc
        self.sdk.init(dsn=f"http://{'0' * 32}@{host}/1", enable_logs=True)

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `logger.info` with attributes."""
        info, attributes = self.logger.info, {**_PAGE, "user.id": USER}
        return lambda: info("checkout", attributes=attributes)

    def flush(self) -> None:
        """Flush."""
        self.sdk.flush(timeout=120)

    def wait_for_room(self) -> None:
        """Wait for its batcher, whose limit cannot be set."""
        while len(self.sdk.get_client().log_batcher._buffer) > self.room - 100:  # noqa: SLF001
            time.sleep(0.001)


class OtelLogs(Subject):
    """OpenTelemetry's log SDK: `BatchLogRecordProcessor` over OTLP/HTTP, batches of 512."""

    room = 2_000

    def start(self) -> None:
        """Make a provider with one batching processor."""
        sdk: Any = importlib.import_module("opentelemetry.sdk._logs")
        export: Any = importlib.import_module("opentelemetry.sdk._logs.export")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http._log_exporter")
        self.provider = sdk.LoggerProvider()
        options: dict[str, Any] = {"max_export_batch_size": self.batch} if self.batch else {}
        processor = export.BatchLogRecordProcessor(
            otlp.OTLPLogExporter(endpoint=f"{self.url}/v1/logs"),
            max_queue_size=max(2048, self.wanted_room),
            **options,
        )
        self.provider.add_log_record_processor(processor)
        self.logger = self.provider.get_logger("shop")
        self.severity = importlib.import_module("opentelemetry._logs").SeverityNumber.INFO

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `Logger.emit` of an event."""
        emit, severity, attributes = self.logger.emit, self.severity, {**_PAGE, "user.id": USER}
        return lambda: emit(
            timestamp=time.time_ns(), severity_number=severity, event_name="checkout", attributes=attributes
        )

    def flush(self) -> None:
        """Flush."""
        self.provider.force_flush(120_000)


class Statsig(Subject):
    """`statsig`: batches of 1,000, two a second, and a queue of ten batches."""

    room = 10_000
    pace = 0.25

    def start(self) -> None:
        """Initialise the SDK. The sink also answers its request for rules."""
        library: Any = importlib.import_module("statsig")
        self.statsig: Any = importlib.import_module("statsig.statsig")
        # Send its error reports to the sink too.
        importlib.import_module("statsig.statsig_error_boundary")._StatsigErrorBoundary.endpoint = (  # noqa: SLF001
            f"{self.url}/v1/sdk_exception"
        )
        options: dict[str, Any] = {"event_queue_size": self.batch} if self.batch else {}
        self.statsig.initialize(
            "secret-loadtest",
            library.StatsigOptions(
                api=f"{self.url}/v1/", disable_diagnostics=True, log_event_connection_reuse=True, **options
            ),
        )
        self.event, self.user = library.StatsigEvent, library.StatsigUser
        self.processor = getattr(self.statsig, "__instance")._logger.event_batch_processor  # noqa: SLF001

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `log_event`."""
        log_event, event, user = self.statsig.log_event, self.event, self.user
        return lambda: log_event(event(user(USER), "checkout", metadata=_PAGE))

    def flush(self) -> None:
        """Send the open batch, and wait until its threads have taken the full ones."""
        self.statsig.flush()
        while self.processor._batched_events_queue:  # noqa: SLF001
            time.sleep(0.01)

    def wait_for_room(self) -> None:
        """Wait for its threads, each of which takes one batch a second."""
        while len(self.processor._batched_events_queue) > 8:  # noqa: SLF001
            time.sleep(0.01)


class Snowplow(Subject):
    """`snowplow-tracker`: an `AsyncEmitter` with one thread, batches of 10."""

    def start(self) -> None:
        """Make a tracker."""
        self.library: Any = importlib.import_module("snowplow_tracker")
        parts = urlsplit(self.url)
        options: dict[str, Any] = {"batch_size": self.batch} if self.batch else {}
        self.emitter = self.library.AsyncEmitter(parts.hostname, protocol="http", port=parts.port, **options)
        self.tracker = self.library.Tracker("shop", self.emitter, app_id="shop")
        importlib.import_module("logging").getLogger("snowplow_tracker").setLevel("WARNING")

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `track` of a self-describing event."""
        library, track = self.library, self.tracker.track
        subject = library.Subject().set_user_id(USER)
        describe, event = library.SelfDescribingJson, library.SelfDescribing
        schema = "iglu:com.example/checkout/jsonschema/1-0-0"
        return lambda: track(event(describe(schema, _PAGE), subject))

    def flush(self) -> None:
        """Flush."""
        self.emitter.sync_flush()


class Umami1(Subject):
    """`umami-analytics` 1.0.0: each call creates an HTTP client and makes a request."""

    pace = 0.002

    def start(self) -> None:
        """Configure the module."""
        self.umami: Any = importlib.import_module("umami")
        if hasattr(self.umami, "Client"):
            raise ImportError("this is not umami-analytics 1.0.0")
        self.umami.set_url_base(self.url)
        self.umami.set_website_id(SITE)
        self.umami.set_hostname("example.com")

    def sender(self, kind: str = "event") -> Send:  # noqa: ARG002
        """Return `new_event`."""
        return typical(self.umami.new_event)

    def sender_async(self, kind: str = "event") -> Callable[[], Awaitable[object]]:  # noqa: ARG002
        """Return `new_event_async`."""
        return typical(self.umami.new_event_async)

    def flush(self) -> None:
        """Do nothing: each call returns after its event is stored."""


SUBJECTS: Final[dict[str, type[Subject]]] = {
    "ours": Ours,
    "ours-spooled": OursSpooled,
    "floor": Floor,
    "floor-threads": FloorThreads,
    "floor-pair": FloorPair,
    "floor-serving": FloorServing,
    "none": Nothing,
    "posthog": PostHog,
    "segment": Segment,
    "sentry-logs": SentryLogs,
    "otel-logs": OtelLogs,
    "statsig": Statsig,
    "snowplow": Snowplow,
    "umami-1.0.0": Umami1,
}
"""All subjects, by their name in the tables."""

REQUIREMENTS: Final[dict[str, str]] = {
    "posthog": "posthog",
    "segment": "segment-analytics-python",
    "sentry-logs": "sentry-sdk",
    "otel-logs": "opentelemetry-exporter-otlp-proto-http",
    "statsig": "statsig",
    "snowplow": "snowplow-tracker",
    "umami-1.0.0": "umami-analytics",
}
"""The package of each peer, as in `peers.txt`."""
