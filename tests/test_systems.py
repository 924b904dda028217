"""Other systems: the client can be imported and sends without the parts of Python that Windows lacks.

This is no run on Windows. It shows that nothing is used there without a look whether it exists.
"""

import subprocess
from collections.abc import Callable

import pytest
from conftest import PASSWORD, SITE
from process_helpers import settings
from queue_helpers import stored

from umami.collector import Collector

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
    """

    process = python(AS_ON_WINDOWS + program, **settings(collector))

    assert (process.returncode, process.stderr) == (0, "")
    assert "file locks" in process.stdout
    assert set(stored(collector)) == {"sync", "async", "in the lifespan", "of a client", "at exit"}
