"""Writes docs/reference/api.generated.md from the docstrings and signatures of ``gristmill.__all__``."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gristmill
from gristmill import errors
from gristmill.api import mapreduce
from gristmill.api.datasets import writing
from gristmill.api.datasets.base import Elements

TARGET = Path(__file__).parent / "reference" / "api.generated.md"

HEAD = """\
# The Python interface

Written by `docs/generate.py` from the code. Change the docstrings, not this page.

All that is named here is imported from `gristmill`. What is not named here may change without notice.
"""

ERRORS = """
## Errors

Every error, with its meaning and exit code, stands in [errors](errors.generated.md).
These can be imported from `gristmill` itself: {}.
"""

_SECTION = re.compile(r"(Args(?: of .*)?|Returns|Raises|Attributes):")
_ITEM = re.compile(r"(\*{0,2}[\w.]+): (.*)")
_ROLE = re.compile(r":\w+:`~?([^`]*)`")


def render() -> str:
    """The whole page."""
    names = [name for name in dir(gristmill) if not name.startswith("_")]
    found = {name: getattr(gristmill, name) for name in names}
    parts = [HEAD]
    for name in sorted((name for name in names if not _is_error(found[name])), key=_order):
        value = found[name]
        parts += _class(name, value) if isinstance(value, type) else [_function(f"gristmill.{name}", value, "##")]
    parts += _options()
    failures = ", ".join(f"`{name}`" for name in names if _is_error(found[name]))
    return "".join(parts) + ERRORS.format(failures)


def _order(name: str) -> tuple[int, str]:
    """What people write first comes first."""
    first = ("MapReduce", "Step", "JobResult", "JobHandle", "count", "Dataset", "Session", "load_job", "Job")
    return (first.index(name) if name in first else len(first)), name


def _is_error(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, errors.GristmillError)


def _class(name: str, cls: type) -> Iterator[str]:
    yield f"\n## {name}\n\n{_prose(cls)}"
    if dataclasses.is_dataclass(cls) and "Attributes:" not in (cls.__doc__ or ""):
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(cls))
        yield f"\nIts parts: {fields}.\n"
    for part in (cls, *_parts(cls)):
        if part is not cls and (said := inspect.cleandoc(part.__doc__ or "").partition("\n\n")[2]):
            yield f"\n{_markdown(said)}"
        yield from _members(name, part)


def _parts(cls: type) -> Iterator[type]:
    """The mixins that a dataset is made of: to its users their methods are its own."""
    for base in cls.__mro__[1:]:
        if issubclass(cls, Elements) and issubclass(base, Elements) and base is not Elements:
            yield base


def _members(name: str, cls: type) -> Iterator[str]:
    for attribute, value in vars(cls).items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if attribute == "__iter__":
            yield f"\n### for key, value in {name}\n\n{_prose(function)}"
        elif attribute.startswith("_"):
            continue
        elif isinstance(value, property):
            yield f"\n### {name}.{attribute}\n\n{_prose(value.fget)}"
        elif inspect.isfunction(function):
            yield _function(f"{name}.{attribute}", function, "###")


def _function(name: str, function: Callable[..., Any], level: str) -> str:
    return f"\n{level} {name}\n\n```python\n{name}{_signature(function)}\n```\n\n{_prose(function)}"


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    text = str(signature.replace(parameters=parameters))
    return re.sub(r"'([^']*)'", r"\1", text)  # annotations, which are strings


def _prose(documented: Any) -> str:
    return _markdown(inspect.cleandoc(documented.__doc__ or ""))


def _markdown(text: str) -> str:
    """A docstring in Google's form, as Markdown."""
    lines = []
    for line in text.splitlines():
        body = line.strip()
        if section := _SECTION.fullmatch(line):
            lines += [f"**{section[1]}**", ""]
        elif not line.startswith("    "):
            lines.append(line)
        elif item := _ITEM.fullmatch(body):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(f"  {body}" if line.startswith("        ") else body)
    return _ROLE.sub(r"`\1`", "\n".join(lines)).replace("``", "`") + "\n"


def _options() -> Iterator[str]:
    """Options that methods share, with what the comments beside them say."""
    yield from _table("Options of run and start", mapreduce.RunOptions)
    yield from _table("Wishes of Dataset.write_text and others", writing.WriteWishes)


def _table(title: str, options: type) -> Iterator[str]:
    yield f"\n## {title}\n\n{_prose(options)}\n"
    yield "| option | type | meaning |\n| --- | --- | --- |\n"
    for line in inspect.getsource(options).splitlines():
        code, _, comment = line.partition("  # ")
        name, colon, kind = code.strip().partition(": ")
        if colon and name.isidentifier():
            kind = kind.removesuffix(" | None").replace("|", "\\|")
            yield f"| `{name}` | `{kind}` | {comment} |\n"
