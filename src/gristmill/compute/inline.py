"""Compiles a generator mapper so that ``yield key, value`` adds to a dict where it stands.

Handing a pair from a generator to whoever adds it up costs as much as the adding. When the pairs only go into sums
(see ``fold``), the mapper's source is compiled once more with each ``yield key, value`` as ``sums[key] += value``: what
a person would have written by hand. Names, closures, line numbers and thus tracebacks stay those of the user.

Only plain cases are taken, and only if the source at hand compiles to the very code that runs; everything else stays a
generator. A function that was compiled so may fail in other ways than it would as a generator (an unhashable key is
then a TypeError of its own line): whoever calls it runs a record that failed again, as a generator, for the true error.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import textwrap
from collections.abc import Callable
from inspect import CO_NESTED
from types import CodeType, FunctionType, MethodType
from typing import Any

_SUMS = "__gristmill_sums__"


def inline_sums(mapper: Callable[..., Any] | None) -> Callable[..., None] | None:
    """``f(sums, key, value)`` that does what adding up the pairs of ``mapper(key, value)`` does; None if unsure."""
    function = mapper.__func__ if isinstance(mapper, MethodType) else mapper
    if not isinstance(function, FunctionType) or not inspect.isgeneratorfunction(function):
        return None
    definition = _definition(function)
    if definition is None or _code(definition, function) != _essence(function.__code__):
        return None
    rewriter = _Rewriter()
    body = [rewriter.visit(statement) for statement in definition.body]
    if rewriter.refused:
        return None
    definition.body = body
    arguments = definition.args
    arguments.posonlyargs = arguments.posonlyargs + arguments.args
    arguments.args = []
    arguments.posonlyargs.insert(1 if isinstance(mapper, MethodType) else 0, ast.arg(_SUMS))
    code = _compile(ast.fix_missing_locations(definition), function)
    if code is None or set(code.co_freevars) != set(function.__code__.co_freevars):
        return None
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in code.co_freevars)
    inlined = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    return MethodType(inlined, mapper.__self__) if isinstance(mapper, MethodType) else inlined


class _Rewriter(ast.NodeTransformer):
    """Turns yield statements into additions; ``refused`` tells of a yield that is anything else."""

    def __init__(self) -> None:
        self.refused = False

    def visit_Expr(self, node: ast.Expr) -> Any:
        value = node.value
        if not isinstance(value, ast.Yield):
            return self.generic_visit(node)
        pair = value.value
        if not (isinstance(pair, ast.Tuple) and len(pair.elts) == 2) or any(
            isinstance(inner, (ast.Yield, ast.YieldFrom, ast.Starred)) for inner in ast.walk(pair)
        ):
            self.refused = True
            return node
        place = ast.Subscript(ast.Name(_SUMS, ast.Load()), pair.elts[0], ast.Store())
        addition = ast.AugAssign(place, ast.Add(), pair.elts[1])
        for made in (place, place.value, addition):
            ast.copy_location(made, node)
        return addition

    def _refuse(self, node: ast.AST) -> ast.AST:
        self.refused = True
        return node

    # A yield that has a value or delegates; code that would see the engine's own errors, or another scope's yields.
    visit_Yield = visit_YieldFrom = visit_Try = visit_TryStar = visit_With = visit_AsyncFunctionDef = _refuse
    visit_FunctionDef = visit_ClassDef = visit_Lambda = _refuse


def _definition(function: FunctionType) -> ast.FunctionDef | None:
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return None
    definition = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(definition, ast.FunctionDef) or definition.decorator_list:
        return None
    ast.increment_lineno(tree, first - 1)
    return definition


def _compile(definition: ast.FunctionDef, function: FunctionType) -> CodeType | None:
    """The code object of a definition, compiled where its free variables are those of another function."""
    free = function.__code__.co_freevars
    outer: ast.stmt = definition
    if free:
        binding = ast.Assign([ast.Name(name, ast.Store()) for name in free], ast.Constant(None))
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        outer = ast.FunctionDef("outer", nothing, [binding, definition], [], **_TYPE_PARAMS)
    module = ast.fix_missing_locations(ast.Module([outer], []))
    flags = function.__code__.co_flags & _FUTURES
    code: CodeType | None = compile(module, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    for name in ("outer", definition.name) if free else (definition.name,):
        inner = [const for const in code.co_consts if isinstance(const, CodeType)] if code else []
        code = next((const for const in inner if const.co_name == name), None)
    return code


def _code(definition: ast.FunctionDef, function: FunctionType) -> Any:
    code = _compile(definition, function)
    return code and _essence(code)


def _essence(code: CodeType) -> Any:
    constants = [const.co_code if isinstance(const, CodeType) else (type(const), const) for const in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_firstlineno, constants


# Python 3.12 gave definitions type parameters, and wants the field.
_TYPE_PARAMS: dict[str, Any] = {"type_params": []} if "type_params" in ast.FunctionDef._fields else {}
_FUTURES = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names} - {CO_NESTED})
