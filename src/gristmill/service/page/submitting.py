"""The form for a new job: from its fields to those that REST takes. Pure, but for the key of an empty form."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache

from gristmill.api.builtin import BUILTIN, builtin_job, parameters_of

_PLAIN = ("job", "output", "name", "reducers", "split_size", "priority", "deadline")
_LINES = {"inputs": "inputs", "params": "set", "arguments": "arguments"}
_FIELDS = (*_PLAIN, *_LINES, "key")
_MOST_CHARACTERS = 100_000


def given_in(fields: Mapping[str, str]) -> dict[str, str]:
    """What was filled in; the form is shown with it again if something is wrong.

    ``key`` is drawn with each empty form: one that is sent twice is one job.
    """
    given = {name: fields.get(name, "")[:_MOST_CHARACTERS] for name in _FIELDS}
    return {**given, "key": given["key"] or secrets.token_urlsafe(16)}


def wish_fields(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """The fields of ``POST /api/v1/jobs``: lines become fields of their own, and empty ones are left out."""
    fields = [(name, given[name].strip()) for name in _PLAIN if given[name].strip()]
    for name, field in _LINES.items():
        fields += [(field, line.strip()) for line in given[name].splitlines() if line.strip()]
    return fields


@cache
def builtin_jobs() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The built-in jobs: name, what each does, and its parameters."""
    found = []
    for name in BUILTIN:
        cls = builtin_job(name)
        assert cls is not None
        words = (cls.__doc__ or "").strip().partition("\n")[0]
        found.append((name, words, list(parameters_of(cls).items())))
    return found
