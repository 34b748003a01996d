"""From what a user names to a :class:`~gristmill.api.job.Job`: ``file.py``, ``file.py:Name``, ``package.module:Name``.

A file is loaded once, here, under a name of its own, with its folder in front of ``sys.path``; its functions travel to
executors by value, so that nobody loads it again. Modules that it imports travel by name, and executors find them on
the same paths. While the file is loaded its ``main()`` does nothing and its ``run()`` ends the loading: a script
without ``if __name__ == "__main__"`` is fine.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from gristmill.api.builtin import BUILTIN, builtin_job, parameters_of
from gristmill.api.job import Job
from gristmill.api.mapreduce import ROLES, MapReduce, ScriptLoading, Step, StopLoading
from gristmill.errors import JobNotFound, UsageError
from gristmill.plan.functions import JobCode
from gristmill.plan.trees import parsed

_NAME = re.compile(r"[A-Za-z_]\w*")
_WISHES: dict[str, tuple[type, ...]] = {
    "input_format": (str,), "output_format": (str,), "reducers": (int,), "task_cpus": (int, float),
    "task_memory": (str, int),
}  # fmt: skip


def load_job(spec: str, params: Mapping[str, Any] | None = None) -> Job:
    """Load the job that ``spec`` names.

    Args:
        spec: ``file.py``, ``file.py:Name``, ``package.module:Name``, ``package.module``, or the name of a built-in job,
            which wins over a module of that name.
        params: the job's parameters.

    Raises:
        JobNotFound: there is no such file, module or class, or it is not a job, or several are.
        UsageError: the script failed while it was loaded.
    """
    if spec in BUILTIN:
        return load_builtin(spec, params)
    place, name = _split(spec)
    if place.endswith(".py") or os.sep in place or "/" in place:
        module = load_module_file(Path(place))
        folder: tuple[str, ...] = (str(Path(place).absolute().parent),)
    else:
        module, folder = load_module(place), ()
    return job_of(module, name, params, place, folder)


def job_of(
    module: ModuleType,
    name: str = "",
    params: Mapping[str, Any] | None = None,
    place: str = "",
    folder: tuple[str, ...] = (),
) -> Job:
    """The job in a module that is loaded.

    Args:
        module: the module.
        name: the class; empty: the only one there is, or the module's own functions.
        params: the job's parameters.
        place: how the module was named; empty: as it says itself.
        folder: where its script is.

    Raises:
        JobNotFound: there is no such class in it, or several.
        UsageError: it has no such parameters.
    """
    place = place or str(module.__file__)
    found = _choose(module, name, place)
    if isinstance(found, ModuleType):
        return _job_of_module(found, Path(place).stem, params or {}, folder)
    return job_of_class(found, params, folder)


def load_builtin(name: str, params: Mapping[str, Any] | None = None) -> Job:
    """One of the jobs that come with Gristmill.

    Raises:
        JobNotFound: there is none of this name.
        UsageError: it has no such parameter, or cannot be told that.
    """
    cls = builtin_job(name)
    if cls is None:
        raise JobNotFound(f"There is no built-in job {name!r}. There are: {', '.join(BUILTIN)}.")
    known = parameters_of(cls)
    for given in params or {}:
        if given not in known:
            there = f"It has: {', '.join(known)}." if known else "It has none."
            raise UsageError(f"The job {name} has no parameter {given!r}. {there}")
    return replace(job_of_class(cls, params), name=name)


def is_script(spec: str) -> bool:
    """Whether ``spec`` names a script of datasets, which is run, and not a job, which is loaded.

    That must be known before either is done. So it is read: a file that imports ``gristmill`` and has nothing of a job
    in it (``MapReduce``, a ``mapper`` or ``reducer``, or a class with such methods) is a script.
    """
    place, name = _split(spec)
    if name or not place.endswith(".py"):
        return False
    try:
        source = Path(place).read_bytes()
    except OSError:
        return False  # who loads it will say what is wrong
    return is_script_text(source)


def is_script_text(source: bytes) -> bool:
    """Whether this is what a script of datasets has in it: see :func:`is_script`."""
    tree = parsed(source)  # who loads what has none will say what is wrong
    return tree is not None and _imports_gristmill(tree) and not _has_job(tree)


def _imports_gristmill(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.partition(".")[0] == "gristmill" for name in names):
            return True
    return False


def _has_job(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Name("MapReduce") | ast.Attribute(attr="MapReduce") | ast.alias(name="MapReduce"):
                return True
            case ast.ClassDef(bases=[_, *_], body=body):
                if any(isinstance(one, ast.FunctionDef) and one.name in (*ROLES, "steps") for one in body):
                    return True
    return not set(_names_of_module(tree)).isdisjoint(("mapper", "reducer"))


def _names_of_module(node: ast.AST) -> Iterator[str]:
    """The names that a module gives to something, wherever in it, but for those within functions and classes."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                yield from _names_of_module(child)


def job_of_class(cls: type[MapReduce], params: Mapping[str, Any] | None = None, folder: tuple[str, ...] = ()) -> Job:
    """The job that a class describes.

    Args:
        cls: the class.
        params: the job's parameters, over the class's own.
        folder: where its script is, for executors to look for modules in.

    Raises:
        UsageError: the class defines no step, or something else than steps.
    """
    job = cls.with_params(params or {})
    steps = tuple(job.steps())
    for step in steps:
        if not isinstance(step, Step):
            raise UsageError(f"{cls.__name__}.steps() must return steps made by self.step(…), not {step!r}.")
    if all(step == Step() for step in steps):
        raise UsageError(f"{cls.__name__} defines neither a mapper nor a reducer, so there is nothing to run.")
    wishes = {name: _wish(job, name, cls.__name__) for name in _WISHES}
    return Job(cls.__name__, JobCode(steps), import_paths(folder), **wishes)


def import_paths(first: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Where executors are to look for modules: where this process does."""
    here = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100 - '' is the current folder
    return tuple(dict.fromkeys([*first, *here]))


def _split(spec: str) -> tuple[str, str]:
    place, colon, name = spec.rpartition(":")
    # A drive letter, as in C:\jobs\count.py, is not a place.
    if colon and len(place) > 1 and _NAME.fullmatch(name):
        return place, name
    return spec, ""


# Loading


def load_module_file(path: Path) -> ModuleType:
    """Load a script under a name of its own; its functions will travel by value.

    Raises:
        JobNotFound: there is no such file.
        UsageError: it failed.
    """
    if not path.is_file():
        raise JobNotFound(f"There is no file {path}.{_similar(path)}")
    path = path.absolute()
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise JobNotFound(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # and there it stays: functions may import when they run
    try:
        with _script_loading():
            spec.loader.exec_module(module)
    except StopLoading:
        pass
    except (Exception, SystemExit) as error:  # it is the user's script: it may raise anything
        del sys.modules[name]
        raise UsageError(_script_failed(path, error)) from error
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
    return module


def load_module_text(file: str, source: bytes, loader: Any) -> ModuleType:
    """As :func:`load_module_file`, of a script that lies nowhere here.

    Args:
        file: what it is called.
        source: what is in it.
        loader: of the module: gives the text to whoever wants it.

    Raises:
        UsageError: it failed.
    """
    name = _free_name(Path(file))
    module = ModuleType(name)
    module.__dict__.update(__file__=file, __loader__=loader)
    sys.modules[name] = module
    try:
        with _script_loading():
            text = importlib.util.decode_source(source)
            linecache.cache[file] = (len(source), None, text.splitlines(keepends=True), file)
            exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    except StopLoading:
        pass
    except (Exception, SystemExit) as error:  # it is the user's script: it may raise anything
        del sys.modules[name]
        raise UsageError(_script_failed(Path(file), error)) from error
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
    return module


def load_module(name: str) -> ModuleType:
    """Import a module that holds a job.

    Raises:
        JobNotFound: there is none.
        UsageError: it failed.
    """
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - compared as text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as `python -m` does
    try:
        found = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None:
        from gristmill.api.builtin import BUILTIN

        raise JobNotFound(
            f"There is no module {name!r}. A file is named with its .py; the jobs that come with Gristmill are "
            f"{', '.join(sorted(BUILTIN))}."
        )
    try:
        with _script_loading():
            return importlib.import_module(name)
    except StopLoading:
        raise UsageError(f"The module {name} starts a job while it is imported; start it in a function.") from None
    except (Exception, SystemExit) as error:  # the user's module
        raise UsageError(_script_failed(Path(found.origin or name), error)) from error


def _free_name(path: Path) -> str:
    """A module name that says which file it is and hides no other module."""
    base = "job_" + re.sub(r"\W", "_", path.stem)
    name, number = base, 1
    while name in sys.modules:
        number += 1
        name = f"{base}_{number}"
    return name


@contextmanager
def _script_loading() -> Iterator[None]:
    ScriptLoading.active, ScriptLoading.started, ScriptLoading.acts = True, None, False
    try:
        yield
    finally:
        ScriptLoading.active = False


def _script_failed(path: Path, error: BaseException) -> str:
    """What went wrong in a script, its own line first."""
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        file, line, source = error.filename, error.lineno or 0, (error.text or "").strip()
        what = f"{type(error).__name__}: {error.msg}"
    else:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users_file(frame.filename)]
        file, line = (own[-1].filename, own[-1].lineno or 0) if own else (str(path), 0)
        source = linecache.getline(file, line).strip()
    place = f"{file}:{line}" if line else file
    shown = f"\n    {source}" if source else ""
    return f"{place}{shown}\n{what}\nThe job could not be loaded, so nothing was started."


def is_users_file(file: str) -> bool:
    """Whether a line of this file in a traceback is the user's own, and not of what loads it."""
    engine = str(Path(__file__).parents[1])
    return not file.startswith(("<", engine)) and "importlib" not in Path(file).parts


def _similar(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.with_name(close[0])}?" if close else ""


# Choosing


def _choose(module: ModuleType, name: str, place: str) -> type[MapReduce] | ModuleType:
    """The job of a module: the class that is named, the only one there is, or the module's own functions."""
    jobs: dict[str, type[MapReduce]] = {key: value for key, value in vars(module).items() if _is_job(value)}
    if name:
        if name not in jobs:
            there = f" There is: {', '.join(sorted(jobs))}." if jobs else ""
            raise JobNotFound(f"{place} has no MapReduce class {name}.{there}")
        return jobs[name]
    if ScriptLoading.started is not None and ScriptLoading.started in jobs.values():
        return ScriptLoading.started  # the script itself says which
    own = {key: job for key, job in jobs.items() if job.__module__ == module.__name__} or jobs
    # A class that others derive from is their base, not another job.
    distinct = {job for job in own.values() if not any(job in other.__mro__[1:] for other in own.values())}
    if len(distinct) == 1:
        return distinct.pop()
    if distinct:
        names = sorted(job.__name__ for job in distinct)
        raise JobNotFound(f"{place} has several jobs: {', '.join(names)}. Say which: {place}:{names[0]}")
    if any(isinstance(vars(module).get(role), FunctionType) for role in ("mapper", "reducer")):
        return module
    if ScriptLoading.acts:
        raise JobNotFound(
            f"{place} is not a job, and not known as a script of datasets: that imports gristmill itself. Run it with "
            f"python."
        )
    raise JobNotFound(
        f"{place} is not a job: it defines neither a subclass of MapReduce nor a function named mapper or reducer; and "
        "it is no script of datasets, for it does not import gristmill."
    )


def _is_job(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, MapReduce) and value is not MapReduce


def _job_of_module(module: ModuleType, name: str, params: Mapping[str, Any], folder: tuple[str, ...]) -> Job:
    """The job of bare functions. Its parameters are the module's own ``params``, which the given ones go over."""
    if params:
        own = vars(module).get("params")
        if not isinstance(own, dict):
            raise UsageError(
                f"{name} takes no parameters. A module of functions that does defines a dict named params."
            )
        own.update(params)
    functions = {role: vars(module).get(role) for role in ROLES}
    step = MapReduce.step(**{role: function for role, function in functions.items() if callable(function)})
    wishes = {wish: _wish(module, wish, name) for wish in _WISHES}
    return Job(name, JobCode((step,)), import_paths(folder), **wishes)


def _wish(owner: object, name: str, owner_name: str) -> Any:
    """An option that the job itself names, or None."""
    value = getattr(owner, name, None)
    if value is not None and (not isinstance(value, _WISHES[name]) or isinstance(value, bool)):
        names = " or ".join(kind.__name__ for kind in _WISHES[name])
        raise UsageError(f"{name} of {owner_name} must be of type {names}, not {value!r}.")
    return value
