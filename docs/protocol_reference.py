"""Writes docs/architecture/protocol.generated.md and journal-facts.generated.md from the code's own comments.

Called by `docs/generate.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import get_args

from gristmill.runtime import protocol
from gristmill.runtime.journal import facts

PROTO = Path(protocol.__file__).parent / "agents.proto"

PROTOCOL_HEAD = """\
# What agents and the coordinator say

Written by `docs/generate.py` from the comments in `src/gristmill/runtime/protocol/agents.proto`.
Change that file, not this page.

"""

FACTS_HEAD = """\
# What the journal holds

Written by `docs/generate.py` from `src/gristmill/runtime/journal/facts.py`. Change the classes, not this page.

"""

_OPENING = re.compile(r"(?:message|enum|service) (\w+) \{(\})?")
_FIELD = re.compile(r"((?:optional |repeated )?[\w.]+ )?(\w+) = \d+;\s*(?://\s*(.*))?")
_CALL = re.compile(r"rpc (\w+)\((.*?)\) returns \((.*?)\);")


def protocol_page() -> str:
    """The file's own words, a section for each message."""
    head, _, body = PROTO.read_text(encoding="utf-8").partition('\nsyntax = "proto3";')
    prose = "\n".join(line.removeprefix("//").removeprefix(" ") for line in head.strip().splitlines())
    return PROTOCOL_HEAD + prose + "\n" + "".join(_sections(body))


def _sections(body: str) -> Iterator[str]:
    comment: list[str] = []
    in_table = False
    for line in map(str.strip, body.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").strip())
        elif opening := _OPENING.fullmatch(line):
            yield f"\n## {opening[1]}\n"
            yield _paragraph(comment)
            in_table = False
        elif call := _CALL.fullmatch(line):
            yield f"\n`{call[1]}`: {call[2]} → {call[3]}.\n{_paragraph(comment)}"
        elif field := _FIELD.fullmatch(line):
            if not in_table:
                yield "\n| name | type | meaning |\n| --- | --- | --- |\n"
                in_table = True
            yield f"| `{field[2]}` | {(field[1] or '').strip()} | {field[3] or ''} |\n"
        if not line.startswith("//"):
            comment = []


def _paragraph(comment: list[str]) -> str:
    return "\n" + "\n".join(comment) + "\n" if comment else ""


def facts_page() -> str:
    """The kinds of facts, and what is said of each."""
    lines = [inspect.cleandoc(facts.__doc__ or ""), "", "| fact | meaning | fields |", "| --- | --- | --- |"]
    for cls in get_args(facts.Fact):
        doc = inspect.cleandoc(cls.__doc__ or "")
        meaning = " ".join(doc.partition("\n\nAttributes:")[0].split()).replace("``", "`")
        named = ", ".join(f"`{field.name}`" for field in fields(cls))
        lines.append(f"| {cls.kind} | {meaning} | {named} |")
    return FACTS_HEAD + "\n".join(lines) + "\n"
