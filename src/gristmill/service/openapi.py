"""The OpenAPI document of all routes, and a page of it for people that needs nothing but this server."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from gristmill.config import VERSION
from gristmill.service.doors.roles import Caller
from gristmill.service.looking.models import Problem
from gristmill.service.page.render import page
from gristmill.service.submission.wishes import JobWish

_DESCRIPTION = """Submit, watch, cancel and retry jobs of this server.

Every call but `/livez` and `/readyz` brings a token: `Authorization: Bearer TOKEN`. What goes wrong is a problem
document (RFC 9457): `type` is the kind, `detail` says what happened and what to do."""
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)
_TAGS = [
    {"name": "jobs", "description": "Submit, list, look at, cancel and retry jobs; read their results."},
    {"name": "tasks", "description": "Tasks, attempts, and what they print."},
    {"name": "workers", "description": "The machines."},
    {"name": "history", "description": "Metrics, traces and events."},
    {"name": "system", "description": "The server itself."},
    {"name": "code", "description": "Code of jobs, as our own clients send it."},
    {"name": "sessions", "description": "What programs with datasets keep here, as our own clients do."},
]


def document_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of an application. Made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title="Gristmill", version=VERSION, description=_DESCRIPTION, routes=app.routes, tags=_TAGS
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, more = models_json_schema(
            [(JobWish, "validation"), (Problem, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schemas.update(more["$defs"])
        for schema in schemas.values():
            _tell_fields(schema)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
        for path in ("/livez", "/readyz"):
            if path in document["paths"]:
                document["paths"][path]["get"]["security"] = []
        app.openapi_schema = document
    return app.openapi_schema


def _tell_fields(schema: dict[str, Any]) -> None:
    """Move what a docstring says of attributes to these."""
    text, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    if attributes:
        schema["description"] = text
    for name, meaning in _ATTRIBUTE.findall(attributes):
        schema["properties"][name]["description"] = " ".join(meaning.replace("``", "`").split())


def reference_page(document: dict[str, Any], caller: Caller) -> str:
    """The document as a page."""
    return page("reference.html", caller, "docs", document=document, groups=groups_of(document), type_of=type_of)


def groups_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations by tag, in the order of the tags."""
    found: dict[str, dict[str, Any]] = {
        tag["name"]: {"name": tag["name"], "description": tag["description"], "operations": []}
        for tag in document.get("tags", [])
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            tag = (operation.get("tags") or ["system"])[0]
            group = found.setdefault(tag, {"name": tag, "description": "", "operations": []})
            group["operations"].append({**operation, "method": method.upper(), "path": path})
    return [group for group in found.values() if group["operations"]]


def type_of(schema: dict[str, Any] | None) -> str:
    """A schema in a word or two, for people."""
    if not schema:
        return ""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if some := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(type_of(one) for one in some if one.get("type") != "null"))
    if schema.get("type") == "array":
        return f"{type_of(schema.get('items'))}[]"
    return str(schema.get("format") or schema.get("type") or "any")
