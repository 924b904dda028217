"""Other systems: client and command work without the parts of Python that Windows lacks.

This is no run on Windows. It shows that nothing is used there without a look whether it exists.
"""

import subprocess
from collections.abc import Callable

import pytest
from conftest import PASSWORD, SITE
from process_helpers import settings

from umami.collector import Collector

LINE = (
    '203.0.113.9 - - [15/Jun/2025:15:06:40 +0000] "GET /a HTTP/1.1" 200 9 "-" '
    '"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"'
)
AS_ON_WINDOWS = """
        import anyio, asyncio, concurrent.futures, multiprocessing, os, signal, sys, tempfile, time
        import httpcore, httpx, tenacity  # what these use is their own affair

        for name in ("fcntl", "grp", "pwd", "resource", "termios"):
            sys.modules[name] = None
        lacking = {
            os: "fork register_at_fork getuid geteuid fchmod fdatasync statvfs posix_fallocate WNOHANG "
                "O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_NOCTTY SEEK_DATA SEEK_HOLE",
            signal: "pthread_kill pthread_sigmask sigwait sigpending setitimer SIGKILL SIGHUP SIGUSR1",
            time: "clock_gettime CLOCK_MONOTONIC",
        }
        for module, names in lacking.items():
            for name in names.split():
                if hasattr(module, name):
                    delattr(module, name)
"""


@pytest.mark.slow
def test_sends_and_queries_without_what_windows_lacks(
    collector: Collector, python: Callable[..., subprocess.CompletedProcess[str]]
):
    program = f"""
        import umami

        umami.configure(flush_on_sigterm=True)  # which has no effect
        umami.new_event("sync")
        assert umami.flush(30)
        umami.login("admin", {PASSWORD!r})
        assert len(umami.websites()) == 1

        async def main():
            async with umami.lifespan():
                await umami.new_event_async("async")
                assert await umami.flush_async(30)
                await umami.active_users_async()
                umami.new_event("in the lifespan")

        asyncio.run(main())
        with umami.Client(website_id={SITE!r}, hostname="example.com") as client:
            client.new_event("of a client")
        try:
            umami.Client(spool=tempfile.mkdtemp())
        except umami.errors.ValidationError as error:
            print(error)
        umami.new_event("at exit")

        import types
        from umami.cli import main

        locks = []
        sys.modules["msvcrt"] = types.SimpleNamespace(locking=lambda *given: locks.append(given), LK_NBLCK=2)
        sys.platform = "win32"
        os.environ["LOCALAPPDATA"] = folder = tempfile.mkdtemp()
        with open(os.path.join(folder, "a.log"), "w") as log:
            log.write({LINE!r})
        assert main(["event", "of the command"]) == 0
        assert main(["import", "--yes", "--bots", "keep", os.path.join(folder, "*.log")]) == 0
        assert len(locks) == 1
        assert sorted(os.listdir(folder)) == ["a.log", "umami"]
    """

    process = python(AS_ON_WINDOWS + program, **settings(collector))

    assert (process.returncode, process.stderr) == (0, "")
    assert "file locks" in process.stdout
    names = {"sync", "async", "in the lifespan", "of a client", "at exit", "of the command", "/a"}
    assert {event.name or event.url_path for event in collector.events} == names
