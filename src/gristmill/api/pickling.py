"""The job's code as bytes; and when that fails, which variable is to blame, in words for its author.

Functions of the script, of ``__main__`` and of notebooks travel by value, with all the globals and closure variables
that they use. If one of those cannot be pickled, the search below walks the same way as the pickler and tries each
alone, until it stands before the one that fails.
"""

from __future__ import annotations

import dis
import inspect
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from gristmill.errors import UnpicklableCode
from gristmill.plan.functions import Call, JobCode

_DEPTH = 20  # how far to follow functions that use functions
_GLOBAL_USES = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_ATTRIBUTE_USES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"})
_UNKNOWN = "The job's code cannot be sent to another process: {}"
_MAKE_IT_INSIDE = "Make it within the function instead; or once in each task, in a function given to map_partitions()."
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
_ROLES = (
    "mapper", "mapper_init", "mapper_final", "combiner", "reducer", "reducer_init", "reducer_final", "partitioner",
)  # fmt: skip


def pickle_code(code: JobCode, *, stable: bool = False) -> bytes:
    """Pickle a job's functions by value.

    Args:
        code: the functions.
        stable: take the time to make the same bytes of the same code in every process, as far as that can be done.

    Raises:
        UnpicklableCode: something that they use cannot travel to another process. The message names it.
    """
    try:
        data = bytes(cloudpickle.dumps(code))
    except Exception as error:  # a value's own __reduce__ or __getstate__ may raise anything
        found = _explain(code, error)
        # The pickler's own traceback is of use only if nothing better was found.
        raise UnpicklableCode(found or _UNKNOWN.format(error)) from (None if found else error)
    if classes := _script_classes(data):
        code = replace(code, classes=classes)
        data = bytes(cloudpickle.dumps(code))
    if stable:
        from gristmill.api.stable import stable_pickle

        data = stable_pickle(code, data)
    return data


def modules_by_value(pickled: bytes) -> tuple[ModuleType, ...]:
    """The modules whose functions and classes travel along in these bytes, instead of being imported there."""
    names = ["__main__", *sorted(cloudpickle.list_registry_pickle_by_value())]
    return tuple(sys.modules[name] for name in names if name in sys.modules and name.encode() in pickled)


def _script_classes(pickled: bytes) -> tuple[type, ...]:
    """The classes of the modules that travel by value, under their own names; but for those that cannot travel."""
    return tuple(
        value
        for module in modules_by_value(pickled)
        for key, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and value.__qualname__ == key
        and _pickles(value)
    )


@dataclass(frozen=True)
class _Culprit:
    """The value that cannot be pickled, and where it is used."""

    what: str  # "the global variable 'lock'"
    value: Any
    function: str  # the name of the function that uses it
    file: str
    line: int


def _explain(code: JobCode, error: Exception) -> str:
    """What is to blame; empty if that is not found."""
    for function, role, advice in _functions(code):
        if _pickles(function):
            continue
        culprit = next(_Search().function(function, role), None)
        if culprit is not None:  # what refuses by itself to be sent, such as a dataset, knows better what to do
            return _message(culprit, str(error) if isinstance(error, UnpicklableCode) else advice)
    return str(error) if isinstance(error, UnpicklableCode) else ""


def _functions(code: JobCode) -> Iterator[tuple[Any, str, str]]:
    """The user's functions, each with its role, and with where else to make what cannot be sent."""
    for step in code.steps:
        for role in _ROLES:
            if (function := getattr(step, role)) is not None:
                init = "reducer_init" if role.startswith(("combiner", "reducer")) else "mapper_init"
                how = "self.x = …" if isinstance(function, MethodType) else "global x; x = …"
                yield function, role, f"Make it in {init} instead ({how}): that runs in every task."
        if fold := getattr(step, "fold", None):
            for function in (fold.create, fold.merge_value, fold.merge_combiners):
                yield function, "fold", _MAKE_IT_INSIDE
    for program in code.programs:
        for call in program:
            if isinstance(call, Call):
                built = f" The step was built at {call.where}." if call.where else ""
                yield from ((argument, call.name, _MAKE_IT_INSIDE + built) for argument in call.arguments)


def _message(culprit: _Culprit, advice: str) -> str:
    place = f"{culprit.file}:{culprit.line}"
    source = linecache.getline(culprit.file, culprit.line).strip()
    shown = f"\n    {source}" if source else ""
    kind = type(culprit.value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return (
        f"{place}, in {culprit.function}{shown}\n"
        f"{culprit.function} uses {culprit.what}, of type {name}, which cannot be sent to another process.\n"
        f"{advice}"
    )


class _Search:
    """A walk over what the pickler takes along, to the first value that fails by itself."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def function(self, function: Any, name: str, depth: int = 0) -> Iterator[_Culprit]:
        """What a callable takes along."""
        if depth > _DEPTH or id(function) in self._seen:
            return
        self._seen.add(id(function))
        if isinstance(function, MethodType):
            yield from self.function(function.__func__, name, depth + 1)
            yield from self._instance(function.__self__, function.__func__, depth + 1)
        elif isinstance(function, FunctionType):
            yield from self._plain(function, depth)

    def _plain(self, function: FunctionType, depth: int) -> Iterator[_Culprit]:
        code = function.__code__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        for variable, cell in cells:
            try:
                value = cell.cell_contents
            except ValueError:  # not bound yet
                continue
            yield from self._value(f"the variable {variable!r} of the function around it", variable, value, code, depth)
        for variable in sorted(_names(code, _GLOBAL_USES) & function.__globals__.keys()):
            value = function.__globals__[variable]
            yield from self._value(f"the global variable {variable!r}", variable, value, code, depth)
        for value in [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]:
            yield from self._value("a default value of an argument", "", value, code, depth)

    def _instance(self, owner: Any, function: Any, depth: int) -> Iterator[_Culprit]:
        """What a method's ``self`` holds, and what its class holds if that travels by value."""
        if isinstance(owner, type):
            yield from self._class(owner, depth)
            return
        methods = [f for f in vars(type(owner)).values() if isinstance(f, FunctionType)]
        for attribute, value in getattr(owner, "__dict__", {}).items():
            user = next((f for f in [function, *methods] if attribute in _names(f.__code__)), function)
            yield from self._value(f"the attribute self.{attribute}", attribute, value, user.__code__, depth)
        yield from self._class(type(owner), depth)

    def _class(self, cls: type, depth: int) -> Iterator[_Culprit]:
        for base in cls.__mro__:
            if id(base) in self._seen or not _by_value(base):
                continue
            self._seen.add(id(base))
            methods = [f for f in map(_underlying, vars(base).values()) if isinstance(f, FunctionType)]
            for attribute, value in list(vars(base).items()):
                if attribute.startswith("__"):
                    continue
                if isinstance(inner := _underlying(value), FunctionType):
                    yield from self.function(inner, attribute, depth + 1)
                    continue
                what = f"the attribute {base.__name__}.{attribute}"
                user = next((f for f in methods if attribute in _names(f.__code__)), None)
                if user is not None:
                    yield from self._value(what, attribute, value, user.__code__, depth)
                elif not _pickles(value):
                    yield _Culprit(what, value, base.__name__, *_class_place(base, attribute))

    def _value(self, what: str, name: str, value: Any, user: CodeType, depth: int) -> Iterator[_Culprit]:
        """A value that some function uses: fine, or to be looked into, or the culprit itself."""
        if isinstance(value, ModuleType) or _pickles(value):
            return
        deeper: Iterator[_Culprit] = iter(())
        if isinstance(value, (FunctionType, MethodType)):
            deeper = self.function(value, name, depth + 1)
        elif isinstance(value, type):
            deeper = self._class(value, depth + 1)
        found = next(deeper, None)
        if found is not None:
            yield found
        elif not isinstance(value, (FunctionType, MethodType, type)):
            function, line = _use_of(user, name)
            yield _Culprit(what, value, function, user.co_filename, line)


def _pickles(value: Any) -> bool:
    try:
        cloudpickle.dumps(value)
    except Exception:  # see pickle_code
        return False
    return True


def _by_value(cls: type) -> bool:
    """Whether the pickler takes a class along instead of naming its module."""
    name = cls.__module__
    registered = cloudpickle.list_registry_pickle_by_value()
    return name == "__main__" or name not in sys.modules or name in registered or "<locals>" in cls.__qualname__


def _underlying(value: Any) -> Any:
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


def _names(code: CodeType, uses: frozenset[str] = _ATTRIBUTE_USES) -> set[str]:
    """Names that code uses in one of these ways, also in functions and comprehensions within it."""
    names = {str(item.argval) for item in dis.get_instructions(code) if item.opname in uses}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant, uses)
    return names


def _use_of(code: CodeType, name: str) -> tuple[str, int]:
    """The innermost function within code that uses a name (a comprehension is no function to people), and the line."""
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        if instruction.positions is not None and instruction.positions.lineno is not None:
            line = instruction.positions.lineno
        if instruction.argval == name and instruction.opname.startswith(("LOAD_", "STORE_ATTR")):
            return code.co_name, line
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and name in {*constant.co_names, *constant.co_freevars}:
            inner, line = _use_of(constant, name)
            return (code.co_name if inner in _COMPREHENSIONS else inner), line
    return code.co_name, code.co_firstlineno


def _class_place(cls: type, attribute: str) -> tuple[str, int]:
    """Where a class defines an attribute."""
    try:
        lines, first = inspect.getsourcelines(cls)
        file = inspect.getsourcefile(cls) or "?"
    except (OSError, TypeError):
        return "?", 0
    for number, text in enumerate(lines):
        if text.strip().startswith((f"{attribute} ", f"{attribute}=", f"{attribute}:")):
            return file, first + number
    return file, first
