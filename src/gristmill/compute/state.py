"""Whether a job's functions could keep anything from one attempt to the next.

An attempt begins with functions that no other has used: they are unpickled for it, which takes as long as a third of an
empty task. Functions that can keep nothing need that only once.
"""

from __future__ import annotations

import opcode
import operator
import re
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodDescriptorType, ModuleType
from typing import Any

from gristmill.plan.functions import Call, ExchangeFunctions, Fold, JobCode, Open, StepFunctions

_VALUES = (type(None), bool, int, float, complex, str, bytes, range, re.Pattern, MethodDescriptorType)
_GETTERS = (operator.itemgetter, operator.attrgetter)
_PARTS = (StepFunctions, ExchangeFunctions, Fold, Open, Call)
_CHANGES = {
    opcode.opmap[name]
    for name in ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR", "STORE_DEREF", "DELETE_DEREF")
    if name in opcode.opmap
}
_WAYS_AROUND = frozenset(
    "globals vars exec eval setattr delattr __dict__ __globals__ __builtins__ __closure__ __code__ __defaults__"
    " __kwdefaults__ __annotations__ __setattr__ __delattr__ cell_contents f_globals f_locals f_builtins"
    " get_objects get_referents get_referrers".split()
)


def keeps_nothing(code: JobCode) -> bool:
    """Whether no attempt can find what another has left in these functions. In doubt it is False.

    Whatever a module holds does not count: all attempts of a process share it anyway. What a function brings along (its
    globals, defaults and closure) must be unchangeable, and nothing in it may rebind those, or write into anything by
    an attribute.
    """
    if code.classes or code.makers:
        return False
    seen: set[int] = set()
    return all(_is_fixed(part, seen) for part in (code.steps, code.programs))


def _is_fixed(value: Any, seen: set[int]) -> bool:
    kind = type(value)
    if kind in _VALUES or kind in _GETTERS or id(value) in seen:
        return True
    seen.add(id(value))  # a function may name itself; all that is seen stays, for the code holds it
    if kind is tuple or kind is frozenset:
        return all(_is_fixed(one, seen) for one in value)
    if kind in _PARTS:
        return all(_is_fixed(one, seen) for one in vars(value).values())
    if kind is ModuleType:
        return sys.modules.get(value.__name__) is value
    if kind is BuiltinFunctionType:
        return _is_fixed(value.__self__, seen)  # its module, or what it is a method of
    if isinstance(value, type):
        return _is_of_module(value)
    return kind is FunctionType and (_is_of_module(value) or _is_pure(value, seen))


def _is_of_module(value: Any) -> bool:
    """Whether this is what a module has under its name, and not a copy of it that came with the job."""
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _is_pure(function: FunctionType, seen: set[int]) -> bool:
    codes = list(_codes(function.__code__))
    texts = {one for code in codes for one in code.co_consts if isinstance(one, str)}  # ``getattr(f, "__dict__")``
    names = {name for code in codes for name in code.co_names} | texts
    if function.__dict__ or not names.isdisjoint(_WAYS_AROUND):
        return False
    if any(not _CHANGES.isdisjoint(code.co_code[::2]) for code in codes):
        return False
    try:
        brought = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # one is empty
        return False
    brought += function.__defaults__ or ()
    brought += (function.__kwdefaults__ or {}).values()
    brought += [function.__globals__[name] for name in names if name in function.__globals__]
    return all(_is_fixed(one, seen) for one in brought)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
