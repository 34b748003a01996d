"""Apps of ``mr-worker``: ``map_func(filename, content)`` and ``reduce_func(key, values)``, as a job like any other.

The names and shapes are those of Google's paper (Dean and Ghemawat 2004) as it is taught: a map call a file, and one
line of output a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gristmill.api.job import Job
from gristmill.api.loading import import_paths, load_module_file
from gristmill.errors import JobNotFound
from gristmill.plan.functions import JobCode, StepFunctions

_FUNCTIONS = ("map_func", "reduce_func")


@dataclass(frozen=True, slots=True)
class KeyValue:
    """What a ``map_func`` returns a list of."""

    key: Any
    value: Any


class _App:
    """An app's two functions as a mapper and a reducer."""

    def __init__(self, map_func: Callable[..., Any], reduce_func: Callable[..., Any]) -> None:
        self._map_func = map_func
        self._reduce_func = reduce_func

    def mapper(self, filename: str, content: str) -> Iterator[tuple[Any, Any]]:
        """The pairs of one file."""
        for pair in _pairs(self._map_func(filename, content)):
            if isinstance(pair, KeyValue):
                yield pair.key, pair.value
            else:
                key, value = pair
                yield key, value

    def reducer(self, key: Any, values: Iterator[Any]) -> Iterator[tuple[None, str]]:
        """The line of one key."""
        yield None, f"{key} {self._reduce_func(key, list(values))}"


def _pairs(made: Any) -> Iterable[Any]:
    return () if made is None else made


def load_app(path: Path) -> Job:
    """The job that an app file describes: a class (or the module itself) with ``map_func`` and ``reduce_func``.

    Raises:
        JobNotFound: there is no such file, or nothing in it, or more than one class, has the two functions.
        UsageError: the file failed while it was loaded.
    """
    module = load_module_file(path)
    app = _find(module, path)
    functions = app() if isinstance(app, type) else app
    made = _App(functions.map_func, functions.reduce_func)
    code = JobCode((StepFunctions(mapper=made.mapper, reducer=made.reducer),))
    return Job(path.stem, code, import_paths((str(path.absolute().parent),)), input_format="whole")


def _find(module: ModuleType, path: Path) -> Any:
    if _is_app(module):
        return module
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and _is_app(value)
    ]
    distinct = [cls for cls in classes if not any(cls in other.__mro__[1:] for other in classes)]
    if len(distinct) == 1:
        return distinct[0]
    if distinct:
        names = ", ".join(sorted(cls.__name__ for cls in distinct))
        raise JobNotFound(f"{path} has several apps: {names}. Leave one of them.")
    raise JobNotFound(
        f"{path} is not an app: it needs map_func(filename, content) and reduce_func(key, values), as functions or as "
        f"methods of a class."
    )


def _is_app(owner: object) -> bool:
    return all(callable(getattr(owner, name, None)) for name in _FUNCTIONS)
