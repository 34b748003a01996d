"""Jobs that come with Gristmill: run by their names, here or on a server, where no code need be sent for them.

Each is a class in a module of its own, like any job of a user; what it can be told stands in its ``PARAMETERS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from gristmill.api.mapreduce import MapReduce

BUILTIN: Mapping[str, str] = {
    "access-log": "gristmill.api.builtin.access_log:AccessLog",
    "distinct": "gristmill.api.builtin.distinct:Distinct",
    "grep": "gristmill.api.builtin.grep:Grep",
    "wordcount": "gristmill.api.builtin.wordcount:WordCount",
}
"""Where each of them is, by name."""


def builtin_job(name: str) -> type[MapReduce] | None:
    """The job of this name; None if there is none."""
    if name not in BUILTIN:
        return None
    module, _, cls = BUILTIN[name].partition(":")
    found = getattr(importlib.import_module(module), cls)
    assert isinstance(found, type) and issubclass(found, MapReduce)
    return found


def parameters_of(cls: type[MapReduce]) -> Mapping[str, str]:
    """What a built-in job can be told: each parameter and what it does."""
    found = getattr(cls, "PARAMETERS", {})
    assert isinstance(found, Mapping)
    return found


def is_yes(value: Any) -> bool:
    """Whether a parameter says yes: in JSON it is a bool, after ``--set`` it is text."""
    return value is True or str(value).lower() in ("yes", "true", "1", "on")
