"""Who may import whom. ``test_imports.py`` holds this table, and the picture in docs/architecture is drawn from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "gristmill"

EVERYONE = ("errors", "config")
"""What every room may import."""

ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "config": (),
    "records": (),
    "scheduling": (),
    "plan": ("records",),
    "storage": ("records",),
    "shuffle": ("records",),
    "compute": ("records", "plan", "shuffle"),
    "runtime": ("records", "scheduling", "plan", "storage", "shuffle", "compute"),
    "fleets": ("records", "scheduling", "plan", "storage", "shuffle", "compute", "runtime"),
    "api": ("plan", "storage", "fleets", "runtime"),
    "service": ("plan", "api", "runtime", "fleets"),
    "gristmill": ("api", "plan"),  # the package itself: the names that users import
    "cli": ("service", "api", "runtime", "gristmill"),
}
"""For each room, the rooms that it may import."""

FLOORS: dict[str, tuple[str, ...]] = {
    "process": (),
    "protocol": ("process",),
    "files": ("process",),
    "journal": ("process",),
    "transport": ("protocol",),
    "executor": ("process", "files"),
    "agent": ("process", "executor"),
    "worker": ("process", "protocol", "files", "transport", "executor", "agent"),
    "coordinator": ("process", "files", "journal"),
}
"""For each folder of ``runtime``, the folders of it that it may import; all may import the files beside the folders."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("api/mapreduce.py", "MapReduce.main"): "cli",  # `python wordcount.py` is the command line of one job
    ("api/mapreduce.py", "Bars.__init__"): "cli",  # `progress=True` draws the bars that the command line draws
}
"""A function of a file may import this room as well, when it is called."""

LIBRARIES: dict[str, tuple[str, ...]] = {
    "ray": ("fleets/ray/",),
    "grpc": ("runtime/", "shuffle/"),
    "pyarrow.flight": ("runtime/", "shuffle/"),
    "duckdb": ("compute/",),
}
"""Files (or folders of them) outside of which a library is not imported."""

SLOW = ("pyarrow", "duckdb", "grpc", "rich", "psutil", "cloudpickle", "click", "asyncio", "fastapi", "uvicorn")
"""What `import gristmill` must not load: it has to stay cheap."""


class Import(NamedTuple):
    """One imported module, and where."""

    file: str  # relative to SOURCE
    line: int
    function: str  # qualified name of the function it stands in; empty at the top
    module: str


def room_of(module: str) -> str:
    """The room of one of the package's modules: ``gristmill.plan.stages`` is of ``plan``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else parts[0]


def floor_of(module: str) -> str:
    """The folder of ``runtime`` of one of its modules; empty: none, or not of ``runtime``."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["gristmill", "runtime"] and len(parts) > 2 and parts[2] in FLOORS else ""


def all_imports() -> Iterator[Import]:
    """Every import of every file, those inside functions and under TYPE_CHECKING too."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield from imports_of(path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8"))


def imports_of(file: str, text: str) -> Iterator[Import]:
    """The imports of one file's text."""
    package = ["gristmill", *Path(file).parent.parts]
    yield from _walk(ast.parse(text), file, package, (), False)


def _walk(node: ast.AST, file: str, package: list[str], names: tuple[str, ...], inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _walk(child, file, package, (*names, child.name), True)
        elif isinstance(child, ast.ClassDef):
            yield from _walk(child, file, package, (*names, child.name), inside)
        else:
            for module in _modules(child, package):
                yield Import(file, getattr(child, "lineno", 0), ".".join(names) if inside else "", module)
            yield from _walk(child, file, package, names, inside)


def _modules(node: ast.AST, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        parent = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            # `from pyarrow import flight` is an import of pyarrow.flight; `from gristmill import api` of gristmill.api.
            named = f"{parent}.{alias.name}"
            submodule = named in LIBRARIES or (parent == "gristmill" and alias.name in ROOMS)
            yield named if submodule else parent
