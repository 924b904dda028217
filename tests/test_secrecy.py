"""The check for secrets (`secrecy`): it fails each test that shows one, and no other."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from process_helpers import running

pytestmark = pytest.mark.slow  # the fixture runs a pytest of its own

LEAKS = {
    "a log line": """
        import logging
        logging.getLogger("umami").warning("logged in with %s", client.login("admin", PASSWORD).token)
    """,
    "a log line below every level": """
        import logging
        logging.getLogger("httpcore.http11").debug("headers %s", client.login("admin", PASSWORD).token)
    """,
    "a log line that comes before the answer": """
        import logging
        from umami.collector.auth import Auth
        issue = Auth.login
        def told(self, *account):
            token = issue(self, *account)
            logging.getLogger("uvicorn").error("issued %s", token)
            return token
        monkeypatch.setattr(Auth, "login", told)
        client.login("admin", PASSWORD)
    """,
    "a logged exception": """
        import logging
        client.login("admin", PASSWORD)
        try:
            raise ValueError(PASSWORD)
        except ValueError:
            logging.getLogger("umami").exception("trouble")
    """,
    "a part of a token": """
        import logging
        logging.getLogger("umami").warning("token %.80s…", client.login("admin", PASSWORD).token)
    """,
    "the repr of what a client holds": """
        monkeypatch.setattr("umami._http.target.Target.__repr__", lambda self: str(self.headers))
        client.login("admin", PASSWORD)
        client.new_event("e")
    """,
    "the repr of a request": """
        monkeypatch.setattr("umami._http.messages.Request.__repr__", lambda self: str(self.headers))
        client.configure(url_base=client._state.settings.url_base.replace("//", "//user:pa55-of-a-proxy@"))
        client.heartbeat()
    """,
    "the repr of a login": """
        monkeypatch.setattr("umami.models.LoginResponse.__repr__", lambda self: self.token)
        client.login("admin", PASSWORD)
    """,
    "an exception that is caught": """
        def fail(server):
            raise ValueError(server.token)
        monkeypatch.setattr("umami._http.endpoints.heartbeat", fail)
        client.login("admin", PASSWORD)
        with pytest.raises(ValueError):
            client.heartbeat()
    """,
    "an exception's cause": """
        def fail(server):
            try:
                raise KeyError(server.api_key)
            except KeyError as error:
                raise ValueError from error
        monkeypatch.setattr("umami._http.endpoints.heartbeat", fail)
        client.set_cloud_api_key("k3y-of-the-cloud")
        with pytest.raises(ValueError):
            client.heartbeat()
    """,
    "an exception of an async call": """
        import anyio
        def fail(server):
            raise ValueError(server.token)
        monkeypatch.setattr("umami._http.endpoints.heartbeat", fail)
        anyio.run(client.login_async, "admin", PASSWORD)
        with pytest.raises(ValueError):
            anyio.run(client.heartbeat_async)
    """,
    "the ledger": """
        other = type(client)(url_base=collector.url)
        token = other.login("admin", PASSWORD).token
        collector.fail(400, body={"error": {"message": token, "code": "bad-request", "status": 400}})
        client.new_event("e")
        client.flush()
    """,
    "a report": """
        client.configure(on_error=lambda report: None)
        other = type(client)(url_base=collector.url)
        token = other.login("admin", PASSWORD).token
        collector.fail(400, body={"error": {"message": token, "code": "bad-request", "status": 400}})
        client.new_event("e")
        client.flush()
    """,
    "what a child prints": """
        python("print('key: k3y-of-the-cloud')", UMAMI_API_KEY="k3y-of-the-cloud")
    """,
    "a child's errors": """
        from process_helpers import finished
        finished("-c", "raise ValueError('pa55-of-a-proxy')", UMAMI_URL="http://user:pa55-of-a-proxy@localhost")
    """,
}
CLEAN = {
    "a login": """
        client.login("admin", PASSWORD)
        client.new_event("e")
        assert client.flush()
        assert [website.id for website in client.websites()] == [SITE]
    """,
    "a secret that cannot be told from other text": """
        client.set_cloud_api_key("umami")
    """,
    "what another test had for a secret": """
        import logging
        logging.getLogger("umami").warning("%s", PASSWORD)
    """,
}
WHERE = {
    "a log line": "a token shows in the log of umami",
    "a log line below every level": "a token shows in the log of httpcore.http11",
    "a log line that comes before the answer": "a token shows in the log of uvicorn",
    "a logged exception": "a password shows in an exception of the log of umami",
    "a part of a token": "a token shows in the log of umami",
    "the repr of what a client holds": "a token shows in the repr of Target",
    "the repr of a request": "a URL's password shows in the repr of Request",
    "the repr of a login": "a token shows in what login() returns",
    "an exception that is caught": "a token shows in an exception of heartbeat()",
    "an exception's cause": "an API key shows in an exception of heartbeat()",
    "an exception of an async call": "a token shows in an exception of heartbeat_async()",
    "the ledger": "a token shows in queue_stats()",
    "a report": "a token shows in the repr of ErrorReport",
    "what a child prints": "an API key shows in the output of a child process",
    "a child's errors": "a URL's password shows in the errors of a child process",
}
Ended = Callable[[str], str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Run all of these as tests of their own, and return how the one of a name ended."""
    file = tmp_path_factory.mktemp("watched") / "test_watched.py"
    bodies = {**LEAKS, **CLEAN}
    functions = [
        f"def test_{number}(client, collector, python, monkeypatch):{body}"
        for number, body in enumerate(bodies.values())
    ]
    file.write_text("\n".join(["import pytest", "from conftest import PASSWORD, SITE", *functions]))
    tests = str(Path(__file__).parent)
    options = ("-p", "conftest", "-p", "no:cacheprovider", "-rA", "-c", "/dev/null")
    command = ("-m", "pytest", *options, str(file))
    with running(*command, errors=subprocess.STDOUT, PYTHONPATH=f"{tests}:{Path(tests).parent}") as child:
        output = "\n".join(child.lines())

    def ending(name: str) -> str:
        number = list(bodies).index(name)
        outcome = re.search(rf"^(PASSED|FAILED|ERROR) .*::test_{number}\b.*", output, re.MULTILINE)
        assert outcome, output
        story = re.search(rf"^_+ test_{number} _+\n((?:.*\n)*?)(?=[_=]{{5}})", output, re.MULTILINE)
        return outcome[1] + "\n" + (story[1] if story else "")

    return ending


@pytest.mark.parametrize("leak", LEAKS)
def test_a_test_fails_that_shows_a_secret_in(ended: Ended, leak: str) -> None:
    ending = ended(leak)
    assert ending.startswith("FAILED\n")
    assert WHERE[leak] in ending


@pytest.mark.parametrize("harmless", CLEAN)
def test_a_test_passes_that_has(ended: Ended, harmless: str) -> None:
    assert ended(harmless).startswith("PASSED\n")
