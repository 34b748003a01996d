"""Writes docs/reference/rest.generated.md from the routes themselves. Called by `docs/generate.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from gristmill.api.builtin import BUILTIN, builtin_job, parameters_of
from gristmill.service.app import routed
from gristmill.service.openapi import document_of, groups_of, type_of
from gristmill.service.problems import ERRORS, KIND, STATUSES

TARGET = Path(__file__).parent / "reference" / "rest.generated.md"

HEAD = """\
# REST interface

Written by `docs/generate.py` from the routes in `src/gristmill/service/routes/`. Change these, not this page.

A server describes itself: the same is at `/api/v1/docs`, and as an OpenAPI document at `/api/v1/openapi.json`.
[How to use it](../rest.md) is another page. Every call but `/livez` and `/readyz` brings a token. What goes wrong is
a problem document, `Problem` below; any call may be answered with 400, 401, 403, 408, 413, 422, 429 and 503.

"""
_ANY = {"400", "401", "403", "408", "413", "422", "429", "503"}


class _Nobody:
    """Stands for what the routes would ask, if they were called."""

    def __getattr__(self, name: str) -> Any:
        return _Nobody()

    def __call__(self, *_args: Any, **_named: Any) -> Any:
        return _Nobody()


def render() -> str:
    """The page."""
    nobody = cast(Any, _Nobody())
    document = document_of(routed(nobody, nobody, nobody, nobody, nobody, nobody))
    lines: list[str] = []
    for group in groups_of(document):
        lines += [f"## {group['name'].capitalize()}", "", group["description"], ""]
        for operation in group["operations"]:
            lines += _operation(operation)
    lines += ["## Built-in jobs", "", *_builtin(), "", "## Problems", "", *_problems(), "", "## Values", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        if "properties" in schema:
            lines += _schema(name, schema)
    return HEAD + "\n".join(lines).rstrip() + "\n"


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    yield f"### `{operation['method']} {operation['path']}`"
    yield ""
    yield _text(operation.get("description", ""))
    yield ""
    parameters = operation.get("parameters", [])
    if parameters:
        yield from ("| parameter | in | type | meaning |", "| --- | --- | --- | --- |")
        for one in parameters:
            default = one.get("schema", {}).get("default")
            told = _text(one.get("description", "")) + (f" Default: {default}." if default is not None else "")
            yield f"| `{one['name']}` | {one['in']} | {_type(one.get('schema'))} | {told.strip()} |"
        yield ""
    if body := operation.get("requestBody"):
        kinds = (f"`{kind}` ({_type(content['schema'])})" for kind, content in body["content"].items())
        yield f"Body: {', '.join(kinds)}."
        yield ""
    answers = [status for status in operation["responses"] if status not in _ANY]
    told = (f"`{status}`{_answered(operation['responses'][status])}" for status in answers)
    yield f"Answers: {', '.join(told)}."
    yield ""


def _answered(answer: dict[str, Any]) -> str:
    for kind, content in answer.get("content", {}).items():
        if kind == "application/json" and content.get("schema"):
            return f" {_type(content['schema'])}"
        if kind != "application/problem+json":
            return f" as `{kind}`"
    return ""


def _builtin() -> Iterator[str]:
    yield from ("| job | what it does | parameters |", "| --- | --- | --- |")
    for name in BUILTIN:
        cls = builtin_job(name)
        assert cls is not None
        told = "; ".join(f"`{one}`: {what}" for one, what in parameters_of(cls).items())
        yield f"| `{name}` | {_text(cls.__doc__ or '')} | {told} |"


def _problems() -> Iterator[str]:
    yield f"Kinds, as they stand in `type` behind `{KIND}`. An error that is not in this table has the status of what"
    yield "it is a kind of, by [the tree of errors](errors.generated.md)."
    yield "429 and 503 say in `Retry-After` when to come again."
    yield ""
    yield from ("| kind | status | meaning |", "| --- | --- | --- |")
    for status, (kind, title) in STATUSES.items():
        yield f"| `{kind}` | {status} | {title} |"
    for cls, status in ERRORS:
        if cls.__name__ not in {kind for kind, _ in STATUSES.values()}:
            yield f"| `{cls.__name__}` | {status} | {_text((cls.__doc__ or '').partition('.')[0])} |"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield from (
        f"### `{name}`",
        "",
        _text(schema.get("description", "")),
        "",
        "| field | type | meaning |",
        "| --- | --- | --- |",
    )
    for field, value in schema["properties"].items():
        yield f"| `{field}` | {_type(value)} | {_text(value.get('description', ''))} |"
    yield ""


def _type(schema: dict[str, Any] | None) -> str:
    return type_of(schema).replace("|", "or").replace("  ", " ")


def _text(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "or")
