"""Runs pages' code blocks as printed: `python tests/run_page.py PAGE`, or a page for each line of stdin.

The blocks run from top to bottom and share their names, as one program does. The embedded collector answers
at https://umami.example.com and at Umami Cloud's hosts, by way of a proxy on loopback: blocks need no other
server. Invisible blocks (`<!--- invisible-code-block: python`) set up what the next block needs, and
check what it did. They have these names:

    server    the collector behind https://umami.example.com
    internet  the proxy; `internet.collector` may be replaced
    source    the text of the last visible Python block
    output()  what was printed and logged since the last `text` block

A `text` block shows output. Each of its lines must have been printed or logged, in this order; `…` stands for
anything.
"""

import gc
import io
import json
import logging
import os
import re
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from cloud_proxy import Internet
from conftest import DEADLINE, PASSWORD
from sybil import Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

import umami
from umami.collector import Collector

printed = io.StringIO()
run_python = PythonEvaluator()


def take_output() -> str:
    """Return what was printed since the last call."""
    text = printed.getvalue()
    printed.seek(0)
    printed.truncate()
    return text


def run(example: Example) -> None:
    """Run a Python block."""
    if example.document.text.startswith("```", example.start):
        example.namespace["source"] = str(example.parsed)
    run_python(example)


def compare(example: Example) -> str | None:
    """Look for the lines of a `text` block in the output."""
    shown, rest = example.parsed.splitlines(), take_output()
    lines = rest.splitlines()
    for expected in shown:
        pattern = re.escape(expected).replace("…", ".*")
        while lines:
            if re.fullmatch(pattern, lines.pop(0)):
                break
        else:
            return f"{expected!r} is not in the output:\n{rest}"
    return None


def main(page: Path) -> None:
    """Run a page; an exception says what does not hold."""
    parsers = [CodeBlockParser("python", run), CodeBlockParser("text", compare)]
    document = Sybil(parsers).parse(page)
    with Collector(password=PASSWORD) as server, Internet(server, Path(), "umami.example.com") as internet:
        os.environ.update(internet.environment, UMAMI_PASSWORD=PASSWORD)
        document.namespace.update(server=server, internet=internet, output=printed.getvalue, source="")
        with redirect_stdout(printed), redirect_stderr(printed):
            logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
            for example in document.examples():
                example.evaluate()
        assert umami.shutdown(timeout=DEADLINE), umami.queue_stats()


def fork_for_each() -> None:
    """Run the page that each line of stdin names, in its folder, in a child that has all modules imported.

    A line is JSON: the page, the folder, and the file for what the child prints. The answer is a line with
    its exit code.
    """
    with Collector(password=PASSWORD) as server, umami.Client(url_base=server.url) as client:
        client.login("admin", PASSWORD)  # umami imports modules as they are needed
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        page, folder, output = json.loads(line)
        child = os.fork()
        if not child:
            signal.alarm(round(3 * DEADLINE))
            os.chdir(folder)
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            return main(Path(page))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    return None


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]))
    else:
        fork_for_each()
