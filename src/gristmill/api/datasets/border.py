"""Where errors leave the package: a script's traceback shows the user's lines, and none of what lies below them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from types import FunctionType
from typing import ParamSpec, TypeVar

from gristmill.errors import GristmillError

C = TypeVar("C", bound=type)
P = ParamSpec("P")
R = TypeVar("R")

_OURS = __name__.partition(".")[0]
FULL_TRACEBACKS = "GRISTMILL_FULL_TRACEBACKS"
"""Set this environment variable to see the package's own lines as well."""


def with_short_tracebacks(cls: C) -> C:
    """Let the errors that we have foreseen leave the public methods of a class, and of its bases, at once.

    They say all there is to say. Others are mistakes of ours, and keep their tracebacks.
    """
    for base in cls.__mro__:
        for name, method in list(vars(base).items()):
            if isinstance(method, FunctionType) and not name.startswith("_") and base.__module__.startswith(_OURS):
                setattr(base, name, bordered(method))
    return cls


def bordered(method: Callable[P, R]) -> Callable[P, R]:
    """Let the errors that we have foreseen leave one function at once."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except GristmillError as error:
            if os.environ.get(FULL_TRACEBACKS):
                raise
            found = error.with_traceback(None)
        raise found  # GRISTMILL_FULL_TRACEBACKS=1 shows where

    return call
