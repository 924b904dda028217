"""The extension of Flask under real servers: page views, configuration, users, and the browser's script."""

import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import SITE
from process_helpers import running
from process_helpers import settings as environment

from integrations.web_servers import Sent, request, until, werkzeug_serving
from umami.collector import Collector
from umami.errors import ValidationError

flask = pytest.importorskip("flask")

from umami.integrations.flask import Umami  # noqa: E402

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def client() -> Iterator[Sent]:
    client = Sent()
    yield client
    client.shutdown(60)


def site(client: Sent, config: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return an application with the extension."""
    app = flask.Flask("site", static_folder=None)
    app.secret_key = "secret"
    app.config.update(config or {})
    Umami(app, client=client, **options)

    def buy() -> dict[str, Any]:
        client.new_event("bought")
        return {}

    async def abuy() -> dict[str, Any]:
        client.new_event("bought")
        return {}

    def login(name: str) -> str:
        flask.session["name"] = name
        client.new_event("logged in")
        return "<h1>Welcome</h1>"

    def stream() -> Any:
        def pieces() -> Iterator[str]:
            client.new_event(f"piece of {flask.request.path}")
            yield "<html></html>"

        return flask.Response(flask.stream_with_context(pieces()), mimetype="text/html")

    app.add_url_rule("/items/<int:number>", "item", lambda number: f"<h1>{number}</h1>")
    app.add_url_rule("/buy", "buy", buy, methods=["POST"])
    app.add_url_rule("/abuy", "abuy", abuy, methods=["POST"])
    app.add_url_rule("/login/<name>", "login", login)
    app.add_url_rule("/stream", "stream", stream)
    blueprint = flask.Blueprint("shop", "shop", url_prefix="/shop")
    blueprint.add_url_rule("/article/<number>", "article", lambda number: number)
    app.register_blueprint(blueprint)
    return app


def user(_: Any) -> str | None:
    return flask.session.get("name")


def test_a_page_view_says_which_page_was_seen_and_by_whom(client: Sent) -> None:
    with werkzeug_serving(site(client)) as port:
        assert (
            request(port, "/items/17?utm_source=mail", peer="127.0.0.9", User_Agent=BROWSER)[1]
            == b"<h1>17</h1>"
        )
        until(lambda: client.urls)
    (view,) = client.payloads
    assert (view["url"], view["title"]) == ("/items/17?utm_source=mail", "item")
    assert (view["ip"], view["userAgent"]) == ("127.0.0.9", BROWSER)


def test_the_route_stands_for_the_path_if_asked(client: Sent) -> None:
    with werkzeug_serving(site(client, {"UMAMI_ROUTES": "template"})) as port:
        for path in ("/items/17", "/shop/article/3", "/nowhere"):
            request(port, path)
        until(lambda: len(client.urls) == 2)
    views = [(payload["url"], payload["title"]) for payload in client.payloads]
    # A page view comes after its response: the next request may overtake it.
    assert sorted(views) == [("/items/<int:number>", "item"), ("/shop/article/<number>", "shop.article")]


@pytest.mark.parametrize("path", ["/buy", "/abuy"])
def test_a_send_in_a_view_knows_the_visitor_and_the_page(client: Sent, path: str) -> None:
    if path == "/abuy":
        pytest.importorskip("asgiref")
    with werkzeug_serving(site(client)) as port:
        assert request(port, path, "POST", User_Agent=BROWSER)[0] == 200
    (event,) = client.payloads
    assert (event["url"], event["userAgent"]) == (path, BROWSER)


def test_a_function_may_read_the_session(client: Sent) -> None:
    with werkzeug_serving(site(client, distinct_id=user)) as port:
        request(port, "/login/ann")
        request(port, "/items/1")
        until(lambda: len(client.urls) == 2)
    assert Counter(payload.get("id") for payload in client.payloads) == {"ann": 2, None: 1}


def test_a_body_streams(client: Sent) -> None:
    with werkzeug_serving(site(client, distinct_id=user)) as port:
        assert request(port, "/stream", User_Agent=BROWSER)[1] == b"<html></html>"
        until(lambda: client.urls)
    event, view = client.payloads
    assert (event["name"], event["url"], view["url"]) == ("piece of /stream", "/stream", "/stream")


def test_the_configuration_sets_the_client_and_the_options(client: Sent) -> None:
    config = {"UMAMI_HOSTNAME": "other.example.com", "UMAMI_EXCLUDE": ["/items/*"], "UMAMI_TAG": "a"}
    with werkzeug_serving(site(client, config, tag="b")) as port:
        request(port, "/items/1")
        request(port, "/shop/article/1")
        until(lambda: client.urls)
    (view,) = client.payloads
    assert (view["url"], view["hostname"], view["tag"]) == ("/shop/article/1", "other.example.com", "b")


def test_an_application_may_come_later(client: Sent) -> None:
    extension = Umami(client=client)
    app = flask.Flask("site")
    extension.init_app(app)
    app.add_url_rule("/", "home", lambda: "<h1>Home</h1>")
    with werkzeug_serving(app) as port:
        request(port, "/")
        until(lambda: client.urls)
    assert app.extensions["umami"] is extension


def test_a_failure_to_track_fails_no_request(client: Sent, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("no")

    with werkzeug_serving(site(client, should_track=fail, distinct_id=fail)) as port:
        assert request(port, "/items/1")[0] == 200
        assert request(port, "/buy", "POST")[0] == 200
    assert "ZeroDivisionError: no" in caplog.text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"UMAMI_EXCLUDES": []}, r"EXCLUDES is not a setting\. Did you mean EXCLUDE\?"),
        ({"UMAMI_ROUTES": "name"}, "routes must be 'path' or 'template'"),
        ({"UMAMI_BATCH_SIZE": 0}, "batch_size must be greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_refused(client: Sent, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        site(client, config)


SCRIPT = (
    f'<script defer src="https://umami.example.com/script.js" nonce="n" data-website-id="{SITE}"></script>'
)


@pytest.mark.parametrize(("config", "html"), [({}, SCRIPT), ({"UMAMI_DISABLED": True}, "")])
def test_templates_load_the_script(client: Sent, config: dict[str, Any], html: str) -> None:
    app = site(client, {"UMAMI_URL": "https://umami.example.com", "UMAMI_WEBSITE_ID": SITE, **config})
    with app.app_context():
        assert flask.render_template_string("{{ umami_tracker(nonce='n') }}") == html


SERVERS = {
    "flask run": (["flask", "--app", "examples.flask_site", "run", "--port=0"], r"Running on"),
    "gunicorn": (
        ["gunicorn", "examples.flask_site:app", "--bind=127.0.0.1:0", "--no-control-socket"],
        "Listening at",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "sign"), SERVERS.values(), ids=SERVERS)
def test_the_example_under_real_servers(collector: Collector, command: list[str], sign: str) -> None:
    variables = environment(collector, flush_interval=600)
    with running("-m", *command, errors=subprocess.STDOUT, **variables) as child:
        port = int(child.says(rf"{sign}.*http://127\.0\.0\.1:(\d+)")[1])
        assert request(port, "/items/17", User_Agent=BROWSER)[0] == 200
        assert request(port, "/buy", "POST", User_Agent=BROWSER)[0] == 200
        assert b"/script.js" in request(port, "/with-script", User_Agent=BROWSER)[1]
        child.process.send_signal(signal.SIGTERM)
        child.end()
    seen = sorted((event.name or "", event.url_path) for event in collector.events)
    assert seen == [("", "/items/<int:number>"), ("purchase", "/buy")]
