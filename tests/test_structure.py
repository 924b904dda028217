"""The structure in docs/internals.md: which modules may import which, and how long they are."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT, with_each

PACKAGE = ROOT / "umami"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
# What the modules whose names begin so may import from the package, and nothing else.
ALLOWED = {
    "umami.errors": ("umami._status_error",),
    "umami._status_error": (),
    "umami._table": (),
    "umami._rows": ("umami._table",),
    "umami._models": (),
    "umami.models": ("umami._models", "umami._rows", "umami._table"),
    "umami.filters": ("umami._events.fields", "umami._events.values", "umami.errors"),
    "umami._clock": (),
    "umami._threads": ("umami._clock", "umami.errors"),
    "umami._events": ("umami._events", "umami._user_agents", "umami.errors"),
    "umami._waiting": ("umami._clock", "umami._threads", "umami.errors"),
    "umami._app_servers": ("umami._threads",),
    "umami._process": ("umami._app_servers", "umami._threads", "umami._clock"),
    "umami.queue": (
        "umami.queue",
        "umami._clock",
        "umami._process",
        "umami._threads",
        "umami._waiting",
        "umami._models",
        "umami.settings",
    ),
    "umami._spool": (
        "umami._spool",
        "umami.queue.store",
        "umami.queue.reasons",
        "umami._clock",
        "umami._threads",
    ),
    "umami._http": (
        "umami._http",
        "umami.queue.exporter",
        "umami.queue.reasons",
        "umami.queue.retry",
        "umami.settings",
        "umami._app_servers",
        "umami._clock",
        "umami._events.fields",
        "umami._events.values",
        "umami._proxy",
        "umami._threads",
        "umami._tls",
        "umami._user_agents",
        "umami._status_error",
        "umami._version",
        "umami.errors",
        "umami.filters",
        "umami.models",
    ),
    # The queries: what they ask for, and how answers are read. How requests are made is `_http`'s.
    "umami._queries": (
        "umami._queries",
        "umami._calls",
        "umami._events.fields",
        "umami._events.values",
        "umami._http",
        "umami._table",
        "umami.errors",
        "umami.filters",
        "umami.models",
    ),
    "umami._visitor": ("umami._events", "umami._user_agents", "umami.errors"),
    # Thin parts on the public client. Beside it, tests replace where events go, which no client may.
    "umami.testing": ("umami._events.fields", "umami._state", "umami._user_agents"),
    "umami.pytest_plugin": ("umami.testing", "umami.collector", "umami._state"),
    "umami.integrations": (
        "umami",
        "umami.integrations",
        "umami._user_agents",  # the rule of bots, which the collector has too
        "umami.errors",
        "umami.settings",
    ),
    "umami.cli": (
        "umami",
        "umami.cli",
        "umami._clock",
        "umami._table",
        "umami._user_agents",
        "umami.collector",
        "umami.errors",
        "umami.exporters",
        "umami.integrations._address",
        "umami.settings",
        "umami.spool",
        "umami.testing",
    ),
    "umami.settings": (
        "umami._checks",
        "umami._environment",
        "umami._events.values",
        "umami.errors",
        "umami._models",
    ),
    "umami._environment": ("umami._events.values", "umami.errors"),
    "umami._checks": (
        "umami._events.data",
        "umami._tls",
        "umami._proxy",
        "umami._events.values",
        "umami.errors",
        "umami.queue.exporter",
    ),
    "umami.collector": (
        "umami.collector",
        "umami._events.hosts",
        "umami._user_agents",
        "umami._threads",
        "umami._version",
    ),
}


def within(module: str, room: str) -> bool:
    return module == room or (room != "umami" and module.startswith(f"{room}."))


def imports(module: str, *, all_of_them: bool) -> Iterator[str]:
    """Yield the modules of the package that a module imports, in functions too.

    Args:
        module: The module.
        all_of_them: Also those for type checkers alone.
    """

    def statements() -> Iterator[ast.AST]:
        waiting: list[ast.AST] = [ast.parse(MODULES[module].read_text())]
        while waiting:
            for child in ast.iter_child_nodes(waiting.pop()):
                if isinstance(child, ast.expr) or (
                    not all_of_them
                    and isinstance(child, ast.If)
                    and "TYPE_CHECKING" in (getattr(child.test, "id", ""), getattr(child.test, "attr", ""))
                ):
                    continue
                yield child
                waiting.append(child)

    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in statements():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                full = f"{name}.{alias.name}"
                found = full if full in MODULES else name
                if found in MODULES and found != module:
                    yield found


@pytest.mark.slow
def test_no_imports_form_a_circle() -> None:
    graph = {module: set(imports(module, all_of_them=True)) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@with_each("room", sorted(ALLOWED))
def test_a_part_imports_only_what_it_may_know(room: str) -> None:
    wrong = {
        f"{module} imports {imported}"
        for module in MODULES
        if within(module, room)
        for imported in imports(module, all_of_them=False)
        if not any(within(imported, each) for each in ALLOWED[room])
    }
    assert not wrong


def test_the_queue_is_fifteen_files_that_fit_on_a_few_screens() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in (PACKAGE / "queue").glob("*.py")}
    assert len(lines) <= 15
    assert not {name: count for name, count in lines.items() if count > 350}


def test_the_internals_name_every_module() -> None:
    text = (ROOT / "docs" / "internals.md").read_text()
    unnamed = [
        module
        for module, path in MODULES.items()
        if path.parent in (PACKAGE, PACKAGE / "queue")
        and not path.name.startswith("__")
        and path.name not in text
    ]
    assert not unnamed


# Since Python 3.12, what a signal handler raises at the end of a loop, a list comprehension's too, passes by
# a `with` around it, and would leave the lock held for ever. A loop in a function of its own does no harm.


@pytest.mark.parametrize("room", ["_http", "_spool", "queue"])
def test_no_loop_stands_directly_where_a_lock_is_held(room: str) -> None:
    held = [
        f"{path.name}:{loop.lineno}"
        for path in (PACKAGE / room).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.With) and "lock" in "".join(ast.unparse(item) for item in node.items).lower()
        for loop in loops_in(node)
    ]
    assert held == []


def loops_in(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Yield the loops in a piece of code, less those in functions and generators of their own."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)):
            yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp)):
            yield from loops_in(child)
