"""The source of a function that runs, as a syntax tree, if what is at hand compiles to the very code that runs.

A file may have changed since it was imported, and several functions may begin in one line: so each candidate is
compiled once more, where its free variables are those of the function, and compared.
"""

from __future__ import annotations
import __future__

import ast
import linecache
import warnings
from collections.abc import Sequence
from functools import lru_cache
from inspect import CO_NESTED
from types import CodeType, FunctionType
from typing import Any

from gristmill.plan.trees import parsed

Definition = ast.FunctionDef | ast.Lambda

_LARGEST = 1 << 20  # characters of a file that is worth parsing


@lru_cache(maxsize=256)  # a task has its own copy of the job's functions; their code is equal
def definition_of(code: CodeType) -> Definition | None:
    """The definition of a function without decorators. It is shared: whoever changes it takes a copy.

    Returns:
        None if there is no source, or another one.
    """
    linecache.checkcache(code.co_filename)
    lines = tuple(linecache.getlines(code.co_filename))
    wanted = essence(code)
    for definition in _definitions(lines).get(code.co_firstlineno, ()):
        if essence(compile_as(definition, code)) == wanted:
            return definition
    return None


def compile_as(definition: Definition, like: CodeType) -> CodeType | None:
    """The code object of a definition, compiled where its free variables are those of other code."""
    statement = definition if isinstance(definition, ast.FunctionDef) else ast.Expr(definition)
    made = compile_within(statement, like.co_freevars, like.co_filename, like.co_flags & _FUTURES)
    name = definition.name if isinstance(definition, ast.FunctionDef) else "<lambda>"
    return next((const for const in made if const.co_name == name), None)


def compile_within(statement: ast.stmt, free: Sequence[str], path: str, flags: int = 0) -> list[CodeType]:
    """The code objects in a statement, compiled where some variables are free, and not global."""
    if free:
        binding = ast.Assign([ast.Name(name, ast.Store()) for name in free], ast.Constant(None))
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        statement = ast.FunctionDef("outer", nothing, [binding, statement], [], **TYPE_PARAMS)
    module = ast.fix_missing_locations(ast.Module([statement], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say was said when the user's own code was compiled
        code = compile(module, path, "exec", flags=flags, dont_inherit=True)
    made = _inner(code)
    return _inner(made[-1]) if free else made


def builtins_of(function: FunctionType) -> Any:
    """Where a function finds names that are neither its own nor global."""
    return function.__builtins__  # type: ignore[attr-defined,unused-ignore]  # mypy's cache leaves out this name


def essence(code: CodeType | None) -> Any:
    """All that makes code do what it does, and where it begins."""
    if code is None:
        return None
    variables = code.co_varnames, code.co_freevars, code.co_cellvars
    arguments = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~CO_NESTED
    constants = [_exact(constant) for constant in code.co_consts]
    return code.co_code, code.co_exceptiontable, code.co_names, variables, arguments, code.co_firstlineno, constants


def _exact(constant: Any) -> Any:
    """A constant in a form that is equal only to its like: not 1 to True, nor 0.0 to -0.0."""
    if isinstance(constant, CodeType):
        return essence(constant)
    if isinstance(constant, frozenset):
        return frozenset, frozenset(map(_exact, constant))
    if isinstance(constant, tuple):
        return tuple, tuple(map(_exact, constant))
    return type(constant), repr(constant)


@lru_cache(maxsize=8)
def _definitions(lines: tuple[str, ...]) -> dict[int, list[Definition]]:
    """The functions without decorators and the lambdas of a file, by the lines in which they begin."""
    source = "".join(lines)
    if len(source) > _LARGEST:
        return {}
    tree = parsed(source)
    if tree is None:
        return {}
    found: dict[int, list[Definition]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.FunctionDef) and not node.decorator_list):
            found.setdefault(node.lineno, []).append(node)
    return found


def _inner(code: CodeType) -> list[CodeType]:
    return [const for const in code.co_consts if isinstance(const, CodeType)]


# Python 3.12 gave definitions type parameters, and wants the field.
TYPE_PARAMS: dict[str, Any] = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}
_FUTURES = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names} - {CO_NESTED})
