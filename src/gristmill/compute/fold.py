"""Recognises the commonest combiner, ``yield key, sum(values)``, so that its sums can be kept as they grow.

A combiner's values must be kept until it is called. A sum need not: adding a value at once takes the same time as
keeping it, and no memory. The meaning is the same, ``sum`` being a fold of ``+`` from 0 (of floats, Python 3.12 and
later sum with compensation: the last digits may differ from a run without combiner, as with any cut of the data).
"""

from __future__ import annotations

import builtins
import dis
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType, MethodType
from typing import Any

# Others say how a module was compiled (`from __future__ import annotations`), or that a class is local.
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR


def is_sum(combiner: Callable[..., Any] | None) -> bool:
    """Whether the function does ``yield key, sum(values)`` and nothing else. When in doubt, no."""
    function = combiner.__func__ if isinstance(combiner, MethodType) else combiner
    if not isinstance(function, FunctionType) or "sum" in function.__globals__:
        return False
    if function.__globals__.get("__builtins__", builtins) not in (builtins, vars(builtins)):
        return False
    template: Any = _method if isinstance(combiner, MethodType) else _function
    return _shape(function.__code__) == _shape(template.__code__)


def _function(key: Any, values: Iterator[Any]) -> Iterator[Any]:
    yield key, sum(values)


def _method(self: Any, key: Any, values: Iterator[Any]) -> Iterator[Any]:  # noqa: ARG001
    yield key, sum(values)


@lru_cache(maxsize=64)  # a task has its own copy of the job's functions; their code is equal
def _shape(code: CodeType) -> list[Any]:
    """The instructions, with its variables numbered: names, docstring and line numbers do not matter."""
    shape: list[Any] = [code.co_argcount, code.co_kwonlyargcount, code.co_flags & _FLAGS, code.co_exceptiontable]
    for step in dis.get_instructions(code):
        by_value = step.opname in ("LOAD_CONST", "RETURN_CONST") or step.opname.startswith("LOAD_GLOBAL")
        shape.append((step.opname, repr(step.argval) if by_value else step.arg))
    return shape
