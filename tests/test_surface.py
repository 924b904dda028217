"""The public names: signatures, help, and what importing and printing them reveals."""

import ast
import functools
import inspect
import logging
import pkgutil
import pydoc
import re
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec, patch

import httpx
import pydantic
import pytest
from conftest import ALL_PACKAGES, DEADLINE, PASSWORD, SITE, with_each

import umami
from umami.collector import Collector

BROWSER = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36"
)
EVENT = (
    "hostname=None, url='/', website_id=None, title=None, custom_data=None, referrer='', language='en-US', "
    "screen='1920x1080', ip_address=None, distinct_id=None, *, tag=None, timestamp=None, ua=None, "
    "browser=None, os=None, device=None"
)
STATS = (
    "start_at=None, end_at=None, website_id=None, url=None, referrer=None, title=None, query=None, "
    "event=None, host=None, os=None, browser=None, device=None, country=None, region=None, city=None, "
    "*, period=None, timezone=None, compare=None, **filters"
)
RANGE = "start_at=None, end_at=None, website_id=None, *, period=None, timezone=None"
LOCAL = {
    "configure": "(**settings)",
    "set_url_base": "(url)",
    "set_website_id": "(website_id)",
    "set_hostname": "(hostname)",
    "set_cloud_api_key": "(key, region=None)",
    "clear_cloud_api_key": "()",
    "enable": "()",
    "disable": "()",
    "set_token": "(token)",
    "is_logged_in": "()",
    "lifespan": "(app=None)",
    "queue_stats": "()",
}
SENDS = {
    "new_event": f"(event_name, {EVENT})",
    "new_revenue_event": f"(revenue, currency='USD', event_name='revenue', {EVENT})",
    "new_page_view": (
        "(page_title, url, hostname=None, website_id=None, referrer='', language='en-US', "
        f"screen='1920x1080', ua={BROWSER!r}, ip_address=None, distinct_id=None, *, tag=None, "
        "timestamp=None, browser=None, os=None, device=None)"
    ),
    "identify": (
        "(distinct_id, data, *, website_id=None, hostname=None, ip_address=None, timestamp=None, ua=None)"
    ),
}
NETWORK = {
    "login": "(username, password, *, code=None, remember=False)",
    "logout": "()",
    "verify_token": "(check_server=True)",
    "heartbeat": "()",
    "request": "(method, path, *, params=None, json=None, raw=False)",
    "websites": "()",
    "active_users": "(website_id=None)",
    "website_stats": f"({STATS})",
    "metrics": f"(type, {RANGE}, limit=None, offset=None, search=None, expanded=False, **filters)",
    "pageviews": f"({RANGE}, unit='day', compare=None, **filters)",
    "event_series": f"({RANGE}, unit='day', limit=None, **filters)",
    "event_stats": f"({RANGE}, compare=None, **filters)",
    "realtime": "(website_id=None)",
    "date_range": "(website_id=None)",
    "filter_values": f"(type, {RANGE}, search=None)",
    "event_properties": f"({RANGE}, **filters)",
    "event_values": f"(property_name, {RANGE}, event, **filters)",
    "event_value_stats": f"(property_name, {RANGE}, event, **filters)",
    "session_stats": f"({RANGE}, **filters)",
    "weekly_sessions": f"({RANGE}, **filters)",
    **SENDS,
    "session": "(session_id, website_id=None)",
    "session_activity": f"(session_id, {RANGE})",
    "session_properties": "(session_id, website_id=None)",
    "funnel": f"(steps, {RANGE}, window=datetime.timedelta(seconds=3600), **filters)",
    "retention": f"({RANGE}, **filters)",
    "journeys": f"({RANGE}, steps=5, start_step=None, end_step=None, **filters)",
    "goal": f"(step, {RANGE}, **filters)",
    "utm": f"({RANGE}, **filters)",
    "attribution": f"(step, {RANGE}, model='first-click', currency=None, **filters)",
    "breakdown": f"(fields, {RANGE}, **filters)",
    "revenue": f"({RANGE}, currency='USD', unit='day', **filters)",
    "web_vitals": f"({RANGE}, metric='lcp', unit='day', **filters)",
    "me": "()",
    "server_version": "()",
    "website": "(website_id=None)",
    "create_website": "(name, domain, *, team_id=None)",
    "update_website": "(website_id=None, *, name=None, domain=None, share_id=None)",
    "transfer_website": "(website_id, *, user_id=None, team_id=None)",
    "reset_website": "(website_id, *, confirm)",
    "delete_website": "(website_id, *, confirm)",
    "delete_session": "(session_id, website_id=None)",
    "shares": "(website_id=None)",
    "create_share": "(name, website_id=None)",
    "delete_share": "(share_id)",
    "segments": "(type='segment', website_id=None)",
    "segment": "(segment_id, website_id=None)",
    "create_segment": "(name, website_id=None, **filters)",
    "update_segment": "(segment_id, website_id=None, *, name=None, **filters)",
    "delete_segment": "(segment_id, website_id=None, *, confirm)",
    "links": "()",
    "link": "(link_id)",
    "create_link": "(name, url, *, slug=None, team_id=None)",
    "update_link": "(link_id, *, name=None, url=None, slug=None)",
    "delete_link": "(link_id, *, confirm)",
    "pixels": "()",
    "pixel": "(pixel_id)",
    "create_pixel": "(name, *, slug=None, team_id=None)",
    "update_pixel": "(pixel_id, *, name=None, slug=None)",
    "delete_pixel": "(pixel_id, *, confirm)",
    "teams": "()",
    "team": "(team_id)",
    "create_team": "(name)",
    "update_team": "(team_id, *, name)",
    "delete_team": "(team_id, *, confirm)",
    "members": "(team_id)",
    "add_member": "(team_id, user_id, role='team-member')",
    "update_member": "(team_id, user_id, *, role)",
    "remove_member": "(team_id, user_id)",
    "join_team": "(access_code)",
    "flush": "(timeout=None)",
    "shutdown": "(timeout=None)",
}
LISTS = {
    "events": f"({RANGE}, search=None, page_size=2000, **filters)",
    "sessions": f"({RANGE}, search=None, page_size=2000, **filters)",
    "event_data": f"({RANGE}, page_size=2000, **filters)",
}
ALIKE = {**NETWORK, **LISTS}
FUNCTIONS = {**LOCAL, **ALIKE, **{f"{name}_async": signature for name, signature in ALIKE.items()}}
MODULES = {"errors", "exporters", "filters", "models", "spool", "testing"}
OTHERS = {"Client", "before_exit", "current_visitor", "no_wait", "user_agent", "visitor", "__version__"}


def signature_of(function: Callable[..., Any]) -> str:
    """Return the names, kinds and defaults of a function's parameters, without the annotations."""
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([each.replace(annotation=inspect.Parameter.empty) for each in parameters]))


# Names and signatures.


def test_the_module_offers_exactly_the_public_names() -> None:
    assert set(umami.__all__) == FUNCTIONS.keys() | MODULES | OTHERS
    assert len(umami.__all__) == len(set(umami.__all__))
    assert all(hasattr(umami, name) for name in umami.__all__)


@with_each("name", FUNCTIONS)
def test_a_function_takes_exactly_its_parameters(name: str) -> None:
    assert signature_of(getattr(umami, name)) == FUNCTIONS[name]


@with_each("name", FUNCTIONS)
def test_a_client_has_the_modules_functions(name: str) -> None:
    assert signature_of(getattr(umami.Client(), name)) == FUNCTIONS[name]


@with_each("name", NETWORK)
def test_an_async_function_differs_in_nothing_but_being_awaited(name: str) -> None:
    function, pair = getattr(umami, name), getattr(umami, f"{name}_async")
    assert inspect.signature(pair) == inspect.signature(function)
    assert inspect.iscoroutinefunction(pair)
    assert not inspect.iscoroutinefunction(function)


def test_functions_are_of_their_kind_also_for_who_unwraps_them_as_fastapi_does() -> None:
    for name in FUNCTIONS.keys() - {"lifespan"}:
        function = getattr(umami, name)
        unwrapped = inspect.unwrap(function)
        assert not inspect.isgeneratorfunction(unwrapped), name
        assert inspect.iscoroutinefunction(unwrapped) == inspect.iscoroutinefunction(function), name
        assert "return" in typing.get_type_hints(function), name
        wrapper = functools.wraps(function)(lambda *_: None)
        assert inspect.signature(wrapper) == inspect.signature(function), name


@with_each("name", FUNCTIONS)
def test_a_function_knows_its_name_and_its_types(name: str) -> None:
    function = getattr(umami, name)
    signature = inspect.signature(function)
    assert function.__name__ == name
    classes = {"Client", "Sends", "EventClient", "Account"}
    assert function.__qualname__ in {f"{each}.{name}" for each in classes}
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@with_each("name", [*SENDS, "login", "metrics"])
def test_a_wrong_call_is_told_by_the_name_that_was_called(name: str) -> None:
    with pytest.raises(TypeError, match=rf"\b{name}\(\) missing"):
        getattr(umami, name)()
    coroutine = getattr(umami, f"{name}_async")()
    with pytest.raises(TypeError, match=rf"\b{name}_async\(\) missing"):
        coroutine.send(None)


@with_each("name", SENDS)
@with_each("suffix", ["", "_async"])
def test_a_send_is_said_to_return_a_dict(name: str, suffix: str) -> None:
    assert inspect.signature(getattr(umami, f"{name}{suffix}")).return_annotation == dict[str, Any]


def test_the_user_agent_says_who_and_where() -> None:
    assert re.fullmatch(r"Umami-Client v\d+\.\d+\S* / Python 3\.\d+\.\d+ / [A-Z]\w+", umami.user_agent)
    assert f" v{umami.__version__} " in umami.user_agent


def test_no_module_has_the_name_of_a_function_that_importing_it_would_replace() -> None:
    """`import umami.flush` would bind the module to the package's attribute `flush`."""
    modules = {module.name for module in pkgutil.iter_modules(umami.__path__)}
    assert {"client", "errors"} <= modules
    assert modules.isdisjoint({*FUNCTIONS, *OTHERS})


# Errors and models.


def test_one_except_clause_catches_every_refusal() -> None:
    assert issubclass(umami.errors.ValidationError, Exception)
    assert issubclass(umami.errors.OperationNotAllowedError, umami.errors.ValidationError)
    assert issubclass(umami.errors.ResponseError, ValueError)


MODELS = {
    "User": "id username role createdAt isAdmin",
    "LoginResponse": "token user",
    "WebsiteUser": "username id",
    "Website": ("id domain createdAt updatedAt name shareId resetAt deletedAt userId teamId user createUser"),
    "WebsiteStats": "pageviews visitors visits bounces totaltime comparison",
    "WebsiteStatsCmp": "pageviews visitors visits bounces totaltime",
    "WebsitesResponse": "websites count page pageSize orderBy",
}


@with_each("name", MODELS)
def test_a_model_has_the_published_fields(name: str) -> None:
    model: type[pydantic.BaseModel] = getattr(umami.models, name)
    assert list(model.model_fields) == MODELS[name].split()


def test_a_model_ignores_what_it_does_not_know_and_keeps_dates_as_they_came() -> None:
    website = umami.models.Website(
        id="1", domain="a.example", createdAt="2026-01-01T00:00:00Z", replayEnabled=True
    )
    assert website.createdAt == "2026-01-01T00:00:00Z"
    assert not hasattr(website, "replayEnabled")


def test_a_websites_page_is_built_from_the_wires_data() -> None:
    page = umami.models.WebsitesResponse(data=[{"id": "1"}], count=1, page=1, pageSize=20)
    assert [website.id for website in page.websites] == ["1"]


@pytest.mark.parametrize("empty", [None, {"value": None, "prev": None}])
def test_stats_read_a_sum_without_rows_as_zero(empty: Any) -> None:
    stats = umami.models.WebsiteStats(pageviews=empty, visitors=0, visits=0, bounces=empty, totaltime=empty)
    assert (stats.pageviews, stats.bounces, stats.totaltime) == (0, 0, 0)


def test_the_ledger_is_read_only() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        umami.queue_stats().delivered = 1


# Help.


@with_each("name", FUNCTIONS)
def test_a_docstring_describes_every_parameter_and_the_result(name: str) -> None:
    function = getattr(umami, name)
    doc = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    for parameter in signature.parameters:
        assert re.search(rf"^    \**{parameter}: ", doc, re.MULTILINE), parameter
    assert ("\nReturns:\n" in doc) == (signature.return_annotation is not None)


@with_each("name", FUNCTIONS)
def test_a_docstring_shows_an_example_of_this_very_function(name: str) -> None:
    doc = inspect.getdoc(getattr(umami, name)) or ""
    match = re.search(r"Example:\n    ```python\n(.*?)    ```", doc, re.DOTALL)
    assert match
    code = textwrap.dedent(match[1])
    compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert f"umami.{name}(" in code or name.removesuffix("_async") == "shutdown", code
    assert ("await " in code or "async for " in code) == name.endswith("_async")


RAISING = {
    "ValidationError": {"configure", "set_url_base", "set_cloud_api_key", *SENDS, "login", "active_users",
                        "website_stats", "flush", "shutdown", "request", "set_token"},
    "OperationNotAllowedError": {*SENDS, "login", "logout", "request", "websites", "active_users",
                        "website_stats"},
    "httpx.HTTPStatusError": {*SENDS, "login", "logout", "request", "websites", "active_users",
                        "website_stats"},
    "ResponseError": {"login", "websites", "active_users", "website_stats"},
}  # fmt: skip


@with_each("name", FUNCTIONS)
def test_a_docstring_names_what_is_raised(name: str) -> None:
    doc = inspect.getdoc(getattr(umami, name)) or ""
    for error, functions in RAISING.items():
        if name.removesuffix("_async") in functions:
            assert re.search(rf"^    {re.escape(error)}: \S", doc, re.MULTILINE), error


@pytest.mark.parametrize("name", ["verify_token", "heartbeat", "is_logged_in"])
def test_what_never_raises_documents_nothing_raised(name: str) -> None:
    assert "Raises:" not in (inspect.getdoc(getattr(umami, name)) or "")


@pytest.mark.slow
def test_help_on_the_module_lists_every_function_with_its_parameters() -> None:
    text = pydoc.plain(pydoc.render_doc(umami))
    for name in FUNCTIONS:
        assert re.search(rf"^ +(?:async )?{name}\(", text, re.MULTILINE), name


@with_each("name", FUNCTIONS)
def test_help_on_a_function_shows_its_parameters_and_its_docstring(name: str) -> None:
    function = getattr(umami, name)
    text = pydoc.plain(pydoc.render_doc(function))
    assert f"{name}(" in text
    assert (inspect.getdoc(function) or "").splitlines()[0] in text


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(umami.__file__).with_name("py.typed").exists()


# Importing.


def test_importing_starts_no_thread_opens_no_socket_and_writes_nothing(python: Callable[..., Any]) -> None:
    program = """
        import sys
        seen = []

        def watch(event, args):
            if event.startswith(("socket.", "_thread.start", "subprocess.", "os.fork")):
                seen.append(event)
            elif event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
                seen.append((event, str(args[0])))

        sys.addaudithook(watch)
        import umami
        import logging, threading
        assert threading.active_count() == 1, threading.enumerate()
        assert not [name for name in sys.modules if name.startswith("umami.collector")]
        assert not logging.getLogger("umami").handlers and not logging.getLogger().handlers
        print(seen)
    """
    result = python(program, PYTHONDONTWRITEBYTECODE="1")  # it may be the first to import a module
    assert result.stderr == ""
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_configuring_and_asking_start_no_thread_either(python: Callable[..., Any]) -> None:
    program = """
        import threading, umami
        umami.configure(url_base="http://127.0.0.1:9", website_id="site", hostname="example.com")
        umami.disable()
        assert umami.new_event("never sent") == {}
        umami.queue_stats(), umami.is_logged_in(), repr(umami.Client()), umami.flush(1)
        assert threading.active_count() == 1, threading.enumerate()
    """
    result = python(program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


HEAVY = (
    "umami.client",
    "umami._state",
    "umami.settings",
    "umami.models",
    "umami.queue.agent",
    "pydantic.main",
    "tenacity",
    "httpx",
)


@pytest.mark.slow
def test_importing_leaves_for_later_what_no_call_needs_yet(python: Callable[..., Any]) -> None:
    program = """
        import sys, umami
        print(*(name for name in sys.argv[1:] if name in sys.modules))
        assert umami.models.QueueStats is not None and umami.spool.files is not None
        from umami import Client, models, spool
        try:
            umami.nothing
        except AttributeError as error:
            assert "'nothing'" in str(error)
    """
    result = python(program, *HEAVY)
    assert (result.stdout.split(), result.stderr) == ([], "")


@pytest.mark.slow
def test_a_program_that_only_sends_events_imports_no_queries(
    collector: Collector, python: Callable[..., Any]
) -> None:
    program = """
        import sys, umami
        umami.configure(url_base=sys.argv[1], website_id=sys.argv[2], hostname="example.com")
        umami.new_event("signup")
        umami.new_page_view("Pricing", "/pricing")
        assert umami.flush(60) and umami.queue_stats().delivered == 2
        of_queries = {"umami.client", "umami.models", "umami._query_client", "umami._queries"}
        assert not of_queries & sys.modules.keys(), of_queries & sys.modules.keys()
        assert umami.heartbeat() and isinstance(umami.queue_stats(), umami.models.QueueStats)
        assert of_queries <= sys.modules.keys()
    """
    result = python(program, collector.url, SITE)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_all_works_without_docstrings(own_collector: Collector, python: Callable[..., Any]) -> None:
    program = """
        import sys, umami
        umami.configure(url_base=sys.argv[1], website_id=sys.argv[2], hostname="example.com")
        umami.new_event("signup")
        umami.flush(60)
        umami.login("admin", sys.argv[3])
        [event] = umami.events(period="24h")
        print(umami.__doc__, len(umami.websites()), event.eventName)
    """
    result = python(program, own_collector.url, SITE, PASSWORD, PYTHONOPTIMIZE="2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "None 1 signup\n", "")


@pytest.mark.slow
def test_a_signal_during_an_import_leaves_no_name_out(python: Callable[..., Any]) -> None:
    program = """
        import signal, sys, umami

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "umami._queries.links":
                    signal.raise_signal(signal.SIGUSR1)

        def handler(*_):
            print("came", flush=True)
            try:
                umami.is_logged_in()
            except AttributeError:
                pass  # its import has begun below

        signal.signal(signal.SIGUSR1, handler)
        sys.meta_path.insert(0, Finder())
        assert not umami.is_logged_in()
        assert {"login", "new_event", "Client"} <= set(umami.__all__)
    """
    result = python(program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "came\n", "")


@pytest.mark.slow
def test_a_program_waits_where_it_names_its_server_and_not_at_its_first_event(
    python: Callable[..., Any],
) -> None:
    program = """
        import sys, threading, umami
        if sys.argv[1] == "code":
            umami.configure(url_base="http://127.0.0.1:9", website_id="site", hostname="example.com")
        caller, imported = threading.get_ident(), []

        def watch(event, arguments):
            if event == "import" and threading.get_ident() == caller:
                imported.append(arguments[0])

        sys.addaudithook(watch)
        umami.new_event("first")
        print(*imported)
        umami.shutdown(0)
    """
    named = {"UMAMI_URL": "http://127.0.0.1:9", "UMAMI_WEBSITE_ID": "site", "UMAMI_HOSTNAME": "example.com"}
    for where, environment in (("code", {}), ("environment", named)):
        result = python(program, where, UMAMI_SHUTDOWN_TIMEOUT="0", **environment)
        assert (where, result.stdout.split()) == (where, [])
        assert result.returncode == 0, result.stderr


def test_what_is_imported_late_looks_as_if_it_were_there() -> None:
    assert {"models", "spool"} <= set(dir(umami))
    assert not hasattr(umami, "nothing")
    assert typing.get_type_hints(umami.Client) == {}
    assert typing.get_type_hints(umami.websites)["return"] == list[umami.models.Website]
    assert typing.get_type_hints(umami.login_async)["return"] is umami.models.LoginResponse
    wrapper = functools.wraps(umami.login_async)(lambda: None)
    assert typing.get_type_hints(wrapper)["return"] is umami.models.LoginResponse
    create_autospec(umami).models.QueueStats()


def test_a_client_may_be_a_base_that_takes_all_other_names(collector: Collector) -> None:
    class Proxy(umami.Client):
        def __init__(self, **settings: Any) -> None:
            self.other: Any = object()
            super().__init__(**settings)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.other, name)

    with Proxy(url_base=collector.url, website_id=SITE, hostname="example.com") as client:
        assert client.new_event("proxied") == {"queued": True}
    collector.wait_for(events=1, timeout=DEADLINE)


@pytest.mark.slow
def test_no_module_of_the_package_imports_by_way_of_its_getattr(python: Callable[..., Any]) -> None:
    """It takes a lock, and importing a module takes that module's: two threads could wait for each other."""
    program = """
        import pkgutil, umami
        def refuse(name):
            raise AttributeError(name) if name.startswith("_") else AssertionError(name)
        umami.__getattr__ = refuse
        for module in pkgutil.walk_packages(umami.__path__, "umami."):
            if not module.name.endswith("__main__"):
                __import__(module.name)
    """
    result = python(program, **ALL_PACKAGES)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_a_fork_in_the_middle_of_the_first_uses_imports(python: Callable[..., Any]) -> None:
    program = """
        import concurrent.futures.thread  # its fork hooks, registered while a fork waits, would be mixed up
        import os, sys, threading, umami

        def watch(event, arguments):
            if event == "import" and arguments[0] == "umami._state" and not importing.is_set():
                importing.set()
                forked.wait(1)

        importing, forked = threading.Event(), threading.Event()
        sys.addaudithook(watch)
        threading.Thread(target=lambda: umami.new_event).start()
        importing.wait()
        child = os.fork()
        forked.set()
        umami.configure(hostname="example.com")
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    result = python(program, PYTHONWARNINGS="ignore")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_function_that_was_replaced_and_put_back_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before = umami.new_event
    with monkeypatch.context() as patched:
        patched.setattr(umami, "new_event", len)
        assert umami.new_event is len
    assert umami.new_event is before
    with patch("umami.new_event") as fake:
        assert umami.new_event is fake
    assert umami.new_event == before


@pytest.mark.slow
def test_threads_that_use_a_client_first_at_one_time_use_the_same(python: Callable[..., Any]) -> None:
    program = """
        import sys, threading, umami
        sys.setswitchinterval(1e-6)
        start, seen = threading.Barrier(8), []

        def use():
            start.wait()
            seen.append(umami.new_event.__self__._state)

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 8 and len(set(map(id, seen))) == 1, seen
    """
    result = python(program)
    assert (result.returncode, result.stderr) == (0, "")


# Secrets.

URL_PASSWORD = "s3cret-Passw0rd"
API_KEY = "cloud-key-51729"


def with_password(url: str) -> str:
    return url.replace("http://", f"http://proxyuser:{URL_PASSWORD}@")


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


def test_no_repr_shows_a_credential(collector: Collector) -> None:
    client = umami.Client(url_base=with_password(collector.url), website_id=SITE, hostname="example.com")
    answer = client.login("admin", PASSWORD)
    for shown in (repr(client), str(client), repr(answer), str(answer), f"{answer!r:.4000}"):
        assert URL_PASSWORD not in shown
        assert answer.token not in shown
    assert collector.url in repr(client)
    assert repr(client) in repr(client.new_event)
    assert "<umami.Client to no server>" in repr(umami.new_event)
    assert "<umami.Client to no server>" in repr(umami.login)
    client.set_cloud_api_key(API_KEY)
    assert repr(client) == "<umami.Client to Umami Cloud>"
    client.__exit__(None, None, None)


def test_no_log_line_shows_a_credential(
    collector: Collector, make_client: Callable[..., umami.Client], everything_logged: Callable[[], str]
) -> None:
    client = make_client(url_base=with_password(collector.url))
    token = client.login("admin", PASSWORD).token
    client.websites()
    collector.fail(503, times=1)
    collector.fail(400, times=1)
    client.new_event("signup")
    assert client.flush(DEADLINE)
    logged = everything_logged()
    assert "rejected" in logged
    assert URL_PASSWORD not in logged
    assert token not in logged
    assert URL_PASSWORD not in repr(client.queue_stats())


def test_no_exception_shows_a_credential(
    collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    client = make_client(url_base=with_password(collector.url))
    token = client.login("admin", PASSWORD).token
    errors: list[BaseException] = []
    for fault in (
        {"status": 401},
        {"status": 200, "body": "<html>"},
        {"status": 200, "body": {"count": token}},
    ):
        collector.fail(path="/api/websites", **fault)
        with pytest.raises((httpx.HTTPStatusError, umami.errors.ResponseError)) as caught:
            client.websites()
        errors.append(caught.value)
    for answer in ({"token": token, "user": None}, f'{{"token":"{token}"', f"token={token}"):
        collector.fail(200, path="/api/auth/login", body=answer)
        with pytest.raises(umami.errors.ResponseError) as refused:
            client.login("admin", URL_PASSWORD)
        errors.append(refused.value)
    collector.stop()
    client.configure(query_timeout=1)
    with pytest.raises(httpx.ConnectError) as away:
        client.websites()
    errors.append(away.value)
    for error in errors:
        assert URL_PASSWORD not in f"{error} {error!r}"
        assert token[:20] not in f"{error} {error!r}"


@with_each(
    "settings",
    [
        {"url_base": f"ftp://user:{URL_PASSWORD}@example.com"},
        {"url_base": f"http://user:{URL_PASSWORD}@"},
        {"url_base": f"http://user:{URL_PASSWORD}@[::1"},
        {"url_base": [f"http://user:{URL_PASSWORD}@example.com"]},
        {"api_key": [URL_PASSWORD]},
    ],
)
def test_a_refused_setting_does_not_repeat_a_credential(settings: dict[str, Any]) -> None:
    with pytest.raises(umami.errors.ValidationError) as caught:
        umami.Client(**settings)
    assert URL_PASSWORD not in str(caught.value)


def test_a_user_and_password_in_the_url_become_a_header(
    collector: Collector, make_client: Callable[..., umami.Client]
) -> None:
    client = make_client(url_base=with_password(collector.url))
    assert client.heartbeat()
    client.new_event("signup")
    assert client.flush(DEADLINE)
    heartbeat, batch = collector.requests
    assert heartbeat.headers["authorization"] == batch.headers["authorization"]
    assert heartbeat.headers["authorization"] == httpx.BasicAuth("proxyuser", URL_PASSWORD)._auth_header
