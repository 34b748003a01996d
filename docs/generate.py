"""Writes the pages that are drawn from the code: `python docs/generate.py`; with `--check`, only names stale ones."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "tests")]

import api_reference  # noqa: E402
import cli_reference  # noqa: E402
import protocol_reference  # noqa: E402
import rest_reference  # noqa: E402

import import_rules  # noqa: E402
from gristmill import errors  # noqa: E402
from gristmill.scheduling import transitions  # noqa: E402
from gristmill.scheduling.transitions import TRANSITIONS, TaskState  # noqa: E402

ROOMS_HEAD = """\
# Who may import whom

Written by `docs/generate.py` from the table in `tests/import_rules.py`, which a test holds.
Change the table, not this page.

An arrow points from a room to one that it may import. What follows from other arrows is left out of the picture and
stands in the table. Every room may also import `errors` and `config`.

"""

STATES_HEAD = """\
# The life of a task

Written by `docs/generate.py` from the table in `src/gristmill/scheduling/transitions.py`.
Change the table, not this page.

"""

ERRORS_HEAD = """\
# Errors

Written by `docs/generate.py` from `src/gristmill/errors.py`. Change the classes, not this page.

Every failure has a name. All of them stand in `gristmill.errors`.

"""

KINDS_HEAD = """
## Kinds of failure

A failed attempt is counted against the budget of its kind. When a budget is used up, the job fails.

| kind | meaning |
| --- | --- |
"""


def rooms_page() -> str:
    """The picture of rooms, and the whole table."""
    rooms = {room: may for room, may in import_rules.ROOMS.items() if room not in import_rules.EVERYONE}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"    {room} --> {target}" for room, may in rooms.items() for target in _direct(may, rooms)]
    lines += ["```", "", "| room | may import |", "| --- | --- |"]
    lines += [f"| `{room}` | {_names(may) or 'no other room'} |" for room, may in rooms.items()]
    floors = import_rules.FLOORS
    lines += ["", "Inside `runtime/`, where every folder may import the files beside the folders:", ""]
    lines += ["```mermaid", "flowchart TD"]
    lines += [f"    {floor} --> {target}" for floor, may in floors.items() for target in _direct(may, floors)]
    lines += ["```", "", "| folder | may import |", "| --- | --- |"]
    lines += [f"| `runtime/{floor}` | {_names(may) or 'no other folder'} |" for floor, may in floors.items()]
    lines += ["", "Exceptions, inside one function each:", ""]
    for (file, function), room in import_rules.EXCEPTIONS.items():
        lines.append(f"- `{function}` in `{file}` may import `{room}`")
    lines += ["", "Libraries that are imported in one place only:", ""]
    lines += [f"- `{library}`: {_names(places)}" for library, places in import_rules.LIBRARIES.items()]
    lines += ["", f"`import gristmill` loads none of {_names(import_rules.SLOW)}."]
    return ROOMS_HEAD + "\n".join(lines) + "\n"


def _direct(may: tuple[str, ...], table: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """The rooms of these that no other of them leads to."""
    for target in may:
        if not any(target in _reachable(other, table) for other in may if other != target):
            yield target


def _reachable(room: str, table: dict[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    for target in table[room]:
        found |= {target} | _reachable(target, table)
    return found


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def states_page() -> str:
    """The picture of a task's states, and the table."""
    _, rules = inspect.cleandoc(transitions.__doc__ or "").split("The rules, in words:\n\n")
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{_state(state)}" as {state.name}' for state in TaskState]
    lines += ["    [*] --> WAITING: a stage is added"]
    lines += [f"    {row.source.name} --> {row.target.name}: {row.text}" for row in TRANSITIONS]
    lines += ["    RUNNING --> [*]: fatal, or beyond the budget, so the job fails", "```", "", rules]
    lines += ["", "| from | why | to |", "| --- | --- | --- |"]
    lines += [f"| {_state(row.source)} | {row.text} | {_state(row.target)} |" for row in TRANSITIONS]
    return STATES_HEAD + "\n".join(lines) + "\n"


def _state(state: TaskState) -> str:
    return state.name.lower().replace("_", " ")


def errors_page() -> str:
    """The tree as it is drawn in the module, and what each class says of itself."""
    doc = inspect.cleandoc(errors.__doc__ or "")
    tree = inspect.cleandoc(doc.split("::\n\n")[1].split("\n\n")[0])
    lines = ["```text", tree, "```", "", "| error | meaning | exit code | kind |", "| --- | --- | --- | --- |"]
    for error in error_classes():
        kind = f"`{error.kind.value}`" if issubclass(error, errors.TaskError) and error is not errors.TaskError else ""
        first = inspect.cleandoc(error.__doc__ or "").split("\n\n")[0]
        meaning = " ".join(first.replace("``", "`").split())
        lines.append(f"| `{error.__name__}` | {meaning} | {error.exit_code} | {kind} |")
    return ERRORS_HEAD + "\n".join(lines) + "\n" + KINDS_HEAD + "".join(_kinds())


def error_classes() -> Iterator[type[errors.GristmillError]]:
    """Every error, parents before children, in the order of the file."""

    def below(error: type[errors.GristmillError]) -> Iterator[type[errors.GristmillError]]:
        yield error
        for child in error.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from below(child)

    return below(errors.GristmillError)


def _kinds() -> Iterator[str]:
    """What the comments beside FailureKind's members say."""
    for line in inspect.getsource(errors.FailureKind).splitlines():
        name, _, comment = line.partition("#")
        if "=" in name and comment:
            yield f"| `{name.partition('=')[0].strip().lower()}` | {comment.strip()} |\n"


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "architecture" / "rooms.generated.md": rooms_page,
    DOCS / "architecture" / "task-states.generated.md": states_page,
    DOCS / "architecture" / "protocol.generated.md": protocol_reference.protocol_page,
    DOCS / "architecture" / "journal-facts.generated.md": protocol_reference.facts_page,
    DOCS / "reference" / "errors.generated.md": errors_page,
    cli_reference.TARGET: cli_reference.render,
    api_reference.TARGET: api_reference.render,
    rest_reference.TARGET: rest_reference.render,
}


def main(*arguments: str) -> int:
    """Write the pages; or with --check name those that are stale, and return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    check = parser.parse_args(arguments).check
    stale = []
    for path, page in PAGES.items():
        text = page()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.relative_to(DOCS.parent).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} is stale: run `make docs`" if check else f"{name} written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
