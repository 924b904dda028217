"""Django, under WSGI and ASGI: page views, visitors, settings, checks, `@track`, and the template tag."""

import asyncio
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, SITE, with_each
from process_helpers import running
from process_helpers import settings as environment

import umami
import umami.testing
from integrations.web_servers import (
    Gated,
    full_client,
    request,
    until,
    uvicorn_serving,
    werkzeug_serving,
)
from umami.collector import Collector
from umami.errors import ValidationError

django = pytest.importorskip("django")
pytest.importorskip("uvicorn")
pytest.importorskip("werkzeug")

from django.apps import apps  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core import checks  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
MIDDLEWARE = "umami.integrations.django.UmamiMiddleware"
AUTHENTICATION = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
CONFIGURED = {"URL": "https://umami.example.com", "WEBSITE_ID": SITE, "HOSTNAME": "example.com"}

if not settings.configured:
    settings.configure(
        SECRET_KEY="secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="integrations.django_urls",
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "umami.integrations.django",
        ],
        MIDDLEWARE=[MIDDLEWARE],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": f"{tempfile.mkdtemp()}/db.sqlite3",
            }
        },
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        UMAMI=CONFIGURED,
        USE_TZ=True,
    )
    with umami.testing.capture():  # at its end the default client is as it was
        django.setup()

from django.test import override_settings  # noqa: E402

from integrations import django_urls  # noqa: E402
from umami.integrations.django import UmamiMiddleware, track  # noqa: E402


@pytest.fixture(scope="module")
def database() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


@pytest.fixture
def outbox() -> Iterator[umami.testing.Outbox]:
    with umami.testing.capture() as outbox:
        yield outbox


@pytest.fixture(params=["wsgi", "asgi"])
def serving(request: pytest.FixtureRequest, outbox: umami.testing.Outbox) -> Callable[..., Any]:
    """Serve the site with options of the middleware."""

    @contextmanager
    def serve(middleware: Any = (MIDDLEWARE,), **options: Any) -> Iterator[int]:
        from django.core.handlers.asgi import ASGIHandler
        from django.core.handlers.wsgi import WSGIHandler

        with override_settings(UMAMI={**CONFIGURED, **options}, MIDDLEWARE=list(middleware)):
            if request.param == "asgi":
                server = uvicorn_serving(ASGIHandler(), lifespan="off")
            else:
                server = werkzeug_serving(WSGIHandler())
            with server as port:
                yield port

    serve.is_async = request.param == "asgi"
    return serve


Serving = Any
Outbox = umami.testing.Outbox


def urls(outbox: Outbox) -> list[str]:
    return [view.url for view in outbox.page_views]


def test_a_page_view_says_which_page_was_seen_and_by_whom(serving: Serving, outbox: Outbox) -> None:
    headers = {"User_Agent": BROWSER, "Accept_Language": "de-DE,de;q=0.9", "Referer": "https://example.org/"}
    with serving() as port:
        path = "/items/17?id=3&utm_source=mail"
        assert request(port, path, peer="127.0.0.9", **headers) == (200, b"<h1>17</h1>")
        until(lambda: outbox.all)
    (view,) = outbox.page_views
    assert (view.url, view.title) == ("/items/17?utm_source=mail", "item")
    assert (view.ip_address, view.ua) == ("127.0.0.9", BROWSER)
    assert (view.language, view.referrer) == ("de-DE", "https://example.org/")


@pytest.mark.parametrize("path", ["/buy", "/abuy"])
def test_a_send_in_a_view_knows_the_visitor_and_the_page(serving: Serving, outbox: Outbox, path: str) -> None:
    with serving(tag="b") as port:
        assert request(port, path, "POST", peer="127.0.0.9", User_Agent=BROWSER)[0] == 200
    event = outbox.one("bought")
    assert (event.url, event.ip_address, event.ua, event.tag) == (path, "127.0.0.9", BROWSER, "b")
    assert outbox.all == [event]


def test_only_pages_count(serving: Serving, outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    with serving(EXCLUDE=["/items/2"]) as port:
        for path in ("/nowhere", "/broken", "/json", "/items/2", "/items/1"):
            request(port, path)
        request(port, "/items/1", "HEAD")
        until(lambda: outbox.all)
    assert urls(outbox) == ["/items/1"]
    assert "not tracked" not in caplog.text


@pytest.mark.parametrize(
    ("path", "route", "name"),
    [
        ("/items/17", "/items/<int:number>", "item"),
        ("/old/17", r"/old/(?P<number>\d+)", "old"),
        ("/shop/article/3", "/shop/article/<number>", "shop:article"),
    ],
)
def test_the_route_stands_for_the_path_if_asked(
    serving: Serving, outbox: Outbox, path: str, route: str, name: str
) -> None:
    with serving(ROUTES="template") as port:
        request(port, path)
        until(lambda: outbox.all)
    assert [(view.url, view.title) for view in outbox.page_views] == [(route, name)]


def test_a_body_streams_and_its_page_view_comes_after_it(serving: Serving, outbox: Outbox) -> None:
    import http.client

    with serving() as port:
        django_urls.gate.clear()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        path = "/astream" if serving.is_async else "/stream"
        connection.request("GET", path, headers={"User-Agent": BROWSER})
        answer = connection.getresponse()
        assert answer.read1() == b"<html>"  # while the rest is not there yet
        assert [sent.name for sent in outbox.all] == ["first piece"]
        assert (outbox.all[0].url, outbox.all[0].ua) == (path, BROWSER)
        django_urls.gate.set()
        assert answer.read() == b"</html>"
        connection.close()
        until(lambda: outbox.page_views)
    assert urls(outbox) == [path]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous")
def test_a_file_is_a_page(serving: Serving, outbox: Outbox) -> None:
    with serving() as port:
        assert request(port, "/file") == (200, b"<html></html>")
        until(lambda: outbox.all)
    assert urls(outbox) == ["/file"]


@pytest.mark.parametrize(
    ("path", "waiting"),
    [
        ("/items/1", "direct mode"),
        ("/file", "direct mode"),
        ("/atracked", "direct mode"),
        ("/atracked", "full queue"),
    ],
)
def test_a_send_that_waits_does_not_block_the_event_loop(
    path: str, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.test import AsyncClient

    server = Gated(waiting)

    async def visit() -> None:
        server.opens_soon()
        async with client:
            assert (await AsyncClient().get(path)).status_code == 200

    with server.client() as client:
        for name in ("new_page_view", "new_page_view_async", "new_event", "new_event_async"):
            monkeypatch.setattr(umami, name, getattr(client, name))
        with override_settings(UMAMI=CONFIGURED):
            asyncio.run(visit())
    assert [payload["url"] for payload in server.payloads] == [path]


@pytest.mark.parametrize(
    ("path", "is_async"),
    [("/items/1", False), ("/file", False), ("/items/1", True), ("/file", True), ("/astream", True)],
)
def test_a_full_queue_delays_no_response(path: str, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.test import AsyncClient, Client

    async def visit() -> int:
        answer: Any = await AsyncClient().get(path)
        if path == "/astream":
            assert [piece async for piece in answer.streaming_content] == [b"<html>", b"</html>"]
        return int(answer.status_code)

    monkeypatch.setattr(django_urls.gate, "wait", lambda _: True)
    monkeypatch.setattr(umami, "new_event", lambda _: None)
    with full_client() as client, override_settings(UMAMI=CONFIGURED):
        for name in ("new_page_view", "new_page_view_async"):
            monkeypatch.setattr(umami, name, getattr(client, name))
        began = time.monotonic()
        if is_async:
            assert asyncio.run(visit()) == 200
        else:
            assert Client().get(path).status_code == 200
        assert time.monotonic() - began < DEADLINE
        assert client.queue_stats().dropped == {"queue_full": 1}


def test_a_failure_to_track_is_logged_once_and_fails_no_request(
    serving: Serving, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("no")

    with caplog.at_level(logging.INFO, "umami"), serving(SHOULD_TRACK=fail) as port:
        for _ in range(3):
            assert request(port, "/items/1")[0] == 200
        until(lambda: caplog.records)
    (record,) = (record for record in caplog.records if "not tracked" in record.message)
    assert "ZeroDivisionError: no" in record.message


def test_requests_at_the_same_time_do_not_mix(serving: Serving, outbox: Outbox) -> None:
    def visit(number: int) -> None:
        request(port, f"/items/{number}", User_Agent=f"{BROWSER} {number}", peer=f"127.0.1.{number}")

    with serving() as port, ThreadPoolExecutor(8) as executor:
        list(executor.map(visit, range(1, 33)))
        until(lambda: len(outbox.all) == 32)
    for view in outbox.page_views:
        number = view.url.rpartition("/")[2]
        assert (view.ip_address, view.ua) == (f"127.0.1.{number}", f"{BROWSER} {number}")


# Users.


@pytest.mark.slow
@pytest.mark.usefixtures("database")
def test_a_user_is_known_by_the_attribute_that_the_settings_name(serving: Serving, outbox: Outbox) -> None:
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    user, _ = User.objects.get_or_create(username="ann")
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    cookie = f"sessionid={session.session_key}"
    with serving([MIDDLEWARE, *AUTHENTICATION], USER_ID="username") as port:
        request(port, "/items/1", Cookie=cookie)
        request(port, "/buy", "POST", Cookie=cookie)
        request(port, "/abuy", "POST", Cookie=cookie)
        request(port, "/items/2")
        until(lambda: len(outbox.all) == 4)
    assert [sent.distinct_id for sent in outbox.all] == ["ann", "ann", "ann", None]


def test_the_user_is_not_looked_at_unless_asked(serving: Serving, outbox: Outbox) -> None:
    with serving([MIDDLEWARE, "integrations.django_urls.forbids_user"]) as port:
        assert request(port, "/items/1")[0] == 200
        assert request(port, "/buy", "POST")[0] == 200
        until(lambda: len(outbox.all) == 2)
    assert [sent.distinct_id for sent in outbox.all] == [None, None]


def test_a_function_says_who_it_is(serving: Serving, outbox: Outbox) -> None:
    with serving(DISTINCT_ID="integrations.django_urls.identity") as port:
        request(port, "/buy", "POST")
        request(port, "/items/1")
        until(lambda: outbox.page_views)
    assert [sent.distinct_id for sent in outbox.all] == ["user of /buy", "user of /items/1"]


def test_an_async_function_may_say_it_too(serving: Serving, outbox: Outbox) -> None:
    options = {"DISTINCT_ID": django_urls.identity_async, "TAG": django_urls.identity_async}
    with serving(**options) as port:
        request(port, "/abuy", "POST")
        request(port, "/items/1")
        until(lambda: outbox.page_views)
        request(port, "/nowhere")
    expected = ["user of /abuy", "user of /items/1"]
    assert [sent.distinct_id for sent in outbox.all] == expected
    assert [sent.tag for sent in outbox.all] == expected


# Asynchronous Django.


@pytest.mark.parametrize(
    "extra", [[], ["integrations.django_urls.sync_only"]], ids=["alone", "with a sync one"]
)
def test_the_middleware_is_no_hop_to_a_thread_under_asgi(outbox: Outbox, extra: list[str]) -> None:
    from django.core.handlers.asgi import ASGIHandler

    django_urls.tasks.clear()
    middleware = ["integrations.django_urls.notes_task", MIDDLEWARE, *extra]
    config = {**CONFIGURED, "TAG": django_urls.identity_async}
    with override_settings(UMAMI=config, MIDDLEWARE=middleware):
        handler = ASGIHandler()
    with uvicorn_serving(handler, lifespan="off") as port:
        assert request(port, "/abuy", "POST")[0] == 200
    assert outbox.one("bought").tag == "user of /abuy"
    around, view = django_urls.tasks
    assert (around is view) == (not extra)


@pytest.mark.parametrize("order", [0, 1], ids=["around", "inside"])
def test_a_sync_middleware_under_asgi_changes_nothing(serving: Serving, outbox: Outbox, order: int) -> None:
    middleware = ["integrations.django_urls.sync_only"]
    middleware.insert(order, MIDDLEWARE)
    with serving(middleware) as port:
        for path in ("/buy", "/abuy"):
            assert request(port, path, "POST", User_Agent=BROWSER)[0] == 200
    assert [(sent.url, sent.ua) for sent in outbox.all] == [("/buy", BROWSER), ("/abuy", BROWSER)]


# Settings and checks.


def found_by_checks(**changed: Any) -> list[Any]:
    app = apps.get_app_config("umami")
    with umami.testing.capture(), override_settings(**changed):
        app.ready()
        found = checks.run_checks(app_configs=[app])
    with umami.testing.capture():
        app.ready()
    return [each for each in found if str(each.id).startswith("umami.")]


@with_each(
    ("changed", "expected"),
    [
        ({}, []),
        ({"UMAMI": {}}, ["umami.W001", "umami.W002", "umami.W003"]),
        ({"UMAMI": {"DISABLED": True}}, []),
        ({"UMAMI": {"API_KEY": "key", "website_id": SITE, "HOSTNAME": "example.com"}}, []),
        ({"MIDDLEWARE": []}, ["umami.W004"]),
        ({"UMAMI": {**CONFIGURED, "ROUTES": "name"}}, ["umami.E001"]),
        ({"UMAMI": {**CONFIGURED, "TITLE": "no.such.function"}}, ["umami.E001"]),
        ({"UMAMI": {**CONFIGURED, "DISTINCT_ID": django_urls.identity_async}}, []),
        ({"UMAMI": {**CONFIGURED, "USER_ID": "pk", "DISTINCT_ID": print}}, ["umami.E001"]),
        ({"UMAMI": {**CONFIGURED, "USER_ID": "pk"}}, ["umami.E002"]),
        ({"UMAMI": {**CONFIGURED, "USER_ID": "pk"}, "MIDDLEWARE": [MIDDLEWARE, *AUTHENTICATION]}, []),
    ],
)
def test_the_checks_say_what_is_missing(changed: dict[str, Any], expected: list[str]) -> None:
    assert [each.id for each in found_by_checks(**changed)] == expected


def test_a_check_says_how_to_set_what_is_missing() -> None:
    server, *_ = found_by_checks(UMAMI={})
    assert server.msg == "No Umami server is set: no event can be sent."
    assert "Set UMAMI = {'URL': 'https://umami.example.com', …}, or UMAMI_URL in" in server.hint


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["URL"], "UMAMI must be a dictionary, such as {'URL':"),
        ({"EXCLUDES": []}, r"UMAMI: EXCLUDES is not a setting\. Did you mean EXCLUDE\?"),
        ({"BATCH_SIZE": 0}, "UMAMI: batch_size must be greater than or equal to 1, got 0"),
        ({"CLIENT": None}, r"UMAMI: CLIENT is not a setting\."),
    ],
)
def test_a_wrong_setting_ends_the_start(value: Any, message: str) -> None:
    app = apps.get_app_config("umami")
    with (
        umami.testing.capture(),
        override_settings(UMAMI=value),
        pytest.raises(ImproperlyConfigured, match=f"^{message}"),
    ):
        app.ready()


def test_the_middleware_asks_for_the_app() -> None:
    with (
        override_settings(INSTALLED_APPS=[]),
        pytest.raises(ImproperlyConfigured, match=r"Add 'umami\.integrations\.django' to INSTALLED_APPS"),
    ):
        UmamiMiddleware(print)


# The decorator.


def answered(view: Any, status: int = 200) -> Any:
    """Call a view, which answers with a status, and return the response."""
    from django.test import RequestFactory

    answer = view(RequestFactory().get("/", {"plan": "pro"}), status)
    return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


def views(*arguments: Any, **options: Any) -> list[Any]:
    """Return a sync and an async view with the decorator."""
    from django.http import HttpResponse

    @track(*arguments, **options)
    def view(_: Any, status: int) -> HttpResponse:
        return HttpResponse(status=status)

    @track(*arguments, **options)
    async def view_async(_: Any, status: int) -> HttpResponse:
        return HttpResponse(status=status)

    return [view, view_async]


def test_track_sends_an_event_if_the_view_succeeds(outbox: Outbox) -> None:
    for view in views("signup", data={"plan": "pro"}):
        answered(view, 400)
        answered(view, 302)
    assert [(sent.name, sent.data) for sent in outbox.all] == [("signup", {"plan": "pro"})] * 2


def test_track_asks_functions(outbox: Outbox) -> None:
    for view in views(
        "signup", data=lambda request, _: request.GET, when=lambda _, response: response.status_code == 400
    ):
        answered(view, 200)
        answered(view, 400)
    assert [sent.data for sent in outbox.all] == [{"plan": "pro"}] * 2


def test_track_fails_no_request(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    for view in views("signup", data={"plan": object()}):
        assert answered(view).status_code == 200
        assert answered(view).status_code == 200
    assert not outbox.all
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "The event 'signup' was not sent: ValidationError" in errors[0]


def test_track_decorates_methods(outbox: Outbox) -> None:
    from django.http import HttpResponse
    from django.test import RequestFactory
    from django.utils.decorators import method_decorator
    from django.views import View

    @method_decorator(track("seen"), name="dispatch")
    class Page(View):
        def get(self, _: Any) -> HttpResponse:
            return HttpResponse()

        @track("posted")
        def post(self, _: Any) -> HttpResponse:
            return HttpResponse()

    Page.as_view()(RequestFactory().get("/"))
    Page.as_view()(RequestFactory().post("/"))
    assert [sent.name for sent in outbox.all] == ["seen", "posted", "seen"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("is_kept", [True, False], ids=["committed", "rolled back"])
def test_track_waits_for_the_commit(outbox: Outbox, is_kept: bool) -> None:
    from django.db import transaction
    from django.http import HttpResponse

    @track("bought", on_commit=True)
    def view(_: Any, status: int) -> HttpResponse:
        return HttpResponse(status=status)

    with transaction.atomic():
        answered(view)
        assert not outbox.all
        if not is_kept:
            transaction.set_rollback(True)
    assert [sent.name for sent in outbox.all] == ["bought"] * is_kept


def test_track_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(ValidationError, match="track needs the name of an event"):
        track(print)
    with pytest.raises(ValidationError, match="on_commit has no effect on async views"):
        views("signup", on_commit=True)


# The template tag.


def rendered(tag: str, **context: Any) -> str:
    from django.template import Context, engines

    return str(engines["django"].engine.from_string(f"{{% load umami %}}{tag}").render(Context(context)))


def test_the_tag_loads_the_script() -> None:
    assert rendered("{% umami_tracker %}") == (
        f'<script defer src="https://umami.example.com/script.js" data-website-id="{SITE}"></script>'
    )


def test_the_tag_has_attributes() -> None:
    html = rendered(
        "{% umami_tracker src='/u.js' domains=domains auto_track=False tag=None %}", domains='a"b'
    )
    assert html == (
        f'<script defer src="/u.js" data-website-id="{SITE}" data-domains="a&quot;b" '
        'data-auto-track="false"></script>'
    )


class LazyNonce:
    """A nonce as Django's: it counts as false until it is read."""

    read = False

    def __bool__(self) -> bool:
        return self.read

    def __str__(self) -> str:
        self.read = True
        return "n0nce"


def test_the_tag_has_the_nonce_of_the_security_policy() -> None:
    from types import SimpleNamespace

    expected = ' nonce="n0nce" '
    assert expected in rendered("{% umami_tracker %}", csp_nonce=LazyNonce())
    assert expected in rendered("{% umami_tracker %}", request=SimpleNamespace(csp_nonce=LazyNonce()))
    assert expected in rendered("{% umami_tracker nonce='n0nce' %}", csp_nonce="other")


@pytest.mark.parametrize(
    ("config", "html"),
    [
        ({**CONFIGURED, "ENABLED": False}, ""),
        ({"URL": "https://umami.example.com"}, ""),
        ({"WEBSITE_ID": SITE}, ""),
        (
            {**CONFIGURED, "URL": "https://user:secret@umami.example.com/sub/"},
            f'<script defer src="https://umami.example.com/sub/script.js" data-website-id="{SITE}"></script>',
        ),
        (
            {"API_KEY": "key", "WEBSITE_ID": SITE},
            f'<script defer src="https://cloud.umami.is/script.js" data-website-id="{SITE}"></script>',
        ),
    ],
    ids=["disabled", "no website", "no server", "user and password", "cloud"],
)
def test_the_tag_follows_the_settings(config: dict[str, Any], html: str) -> None:
    app = apps.get_app_config("umami")
    with umami.testing.capture(), override_settings(UMAMI=config):
        app.ready()
        try:
            assert rendered("{% umami_tracker %}") == html
        finally:
            with override_settings(UMAMI=CONFIGURED):
                app.ready()


# Whole projects.

MANAGE = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.test import SimpleTestCase
from django.urls import path
import umami

def page(request):
    umami.new_event("seen")
    return HttpResponse("<h1>Page</h1>")

urlpatterns = [path("", page)]

class PageTest(SimpleTestCase):
    def test_page(self):
        assert self.client.get("/").status_code == 200
        print("ENABLED", umami.queue_stats().submitted)

if __name__ == "__main__":
    settings.configure(ROOT_URLCONF="manage", INSTALLED_APPS=["umami.integrations.django"], UMAMI=CONFIG,
                       MIDDLEWARE=["umami.integrations.django.UmamiMiddleware"])
    execute_from_command_line(sys.argv)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("config", "sent"), [({}, 0), ({"ENABLED": True}, 2)], ids=["by default", "enabled"])
def test_manage_py_test_sends_nothing_unless_asked(
    collector: Collector, tmp_path: Path, config: dict[str, Any], sent: int
) -> None:
    if sent:
        config |= {"URL": collector.url, "WEBSITE_ID": SITE, "HOSTNAME": "example.com"}
    (tmp_path / "manage.py").write_text(MANAGE.replace("CONFIG", repr(config)))
    ran = subprocess.run(
        [sys.executable, "manage.py", "test", "manage"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"ENABLED {sent}" in ran.stdout
    assert len(collector.events) == sent


SERVERS = {
    "gunicorn": (
        [
            "gunicorn",
            "examples.django_site:application",
            "--bind=127.0.0.1:0",
            "--no-control-socket",
        ],
        "Listening at",
    ),
    "uvicorn": (["uvicorn", "examples.django_site:asgi_application", "--port=0"], "running on"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "sign"), SERVERS.values(), ids=SERVERS)
def test_the_example_under_real_servers(collector: Collector, command: list[str], sign: str) -> None:
    variables = environment(collector, flush_interval=600)
    with running("-m", *command, errors=subprocess.STDOUT, **variables) as child:
        port = int(child.says(rf"{sign}.*http://127\.0\.0\.1:(\d+)")[1])
        for path in ("/items/17", "/add", "/buy", "/with-script"):
            status, body = request(port, path, User_Agent=BROWSER)
            assert status == 200
        assert b"/script.js" in body
        child.process.send_signal(signal.SIGTERM)
        child.end()
    seen = sorted((event.name or "", event.url_path) for event in collector.events)
    assert seen == [
        ("", "/add"),
        ("", "/buy"),
        ("", "/items/<int:number>"),
        ("add to cart", "/add"),
        ("purchase", "/buy"),
    ]
