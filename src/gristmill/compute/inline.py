"""Compiles a generator mapper so that ``yield key, value`` goes into a dict where it stands.

Handing a pair from a generator to whoever groups it costs as much as the grouping. So the mapper's source is compiled
once more with each ``yield key, value`` as ``groups[key].append(value)``, or ``groups[key] += value`` where pairs are
only added up (see ``fold``): what a person would have written by hand. Names, closures, line numbers and thus
tracebacks stay those of the user.

Sums take no memory as they grow. Lists do, and whoever holds them must look at them now and then: so for lists a
mapper is taken only if none of its yields is in a loop, and a record gives no more pairs than there are yields.

Only plain cases are taken, and only if the source at hand compiles to the very code that runs; everything else stays a
generator. A function that was compiled so may fail in other ways than it would as a generator (an unhashable key is
then a TypeError of its own line): whoever calls it runs a record that failed again, as a generator, for the true error.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from inspect import CO_GENERATOR
from types import CodeType, FunctionType, MethodType
from typing import Any

from gristmill.compute.source import compile_as, definition_of

_GROUPS = "__gristmill_groups__"

Inlined = Callable[[Any, Any, Any], None]


def inline_mapper(mapper: Callable[..., Any] | None, sums: bool) -> tuple[Inlined, int] | None:
    """``f(groups, key, value)`` that groups the pairs of ``mapper(key, value)``, and how many yields it has.

    Args:
        mapper: a user's function or method.
        sums: whether values are added up; else they are appended to lists.

    Returns:
        None if there is any doubt that it would do the same.
    """
    function = mapper.__func__ if isinstance(mapper, MethodType) else mapper
    if not isinstance(function, FunctionType) or not function.__code__.co_flags & CO_GENERATOR:
        return None
    made = _inline(function.__code__, isinstance(mapper, MethodType), sums)
    if made is None:
        return None
    code, yields = made
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    closure = tuple(cells[name] for name in code.co_freevars)
    inlined = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    inlined.__kwdefaults__ = function.__kwdefaults__
    bound: Inlined = MethodType(inlined, mapper.__self__) if isinstance(mapper, MethodType) else inlined
    return bound, yields


@lru_cache(maxsize=64)  # a task has its own copy of the job's functions; their code is equal
def _inline(code: CodeType, bound: bool, sums: bool) -> tuple[CodeType, int] | None:
    definition = deepcopy(definition_of(code))
    if not isinstance(definition, ast.FunctionDef):
        return None
    rewriter = _Rewriter(sums)
    body = [rewriter.visit(statement) for statement in definition.body]
    if rewriter.refused or not rewriter.yields:
        return None
    definition.body = body
    arguments = definition.args
    arguments.posonlyargs = arguments.posonlyargs + arguments.args
    arguments.args = []
    arguments.posonlyargs.insert(1 if bound else 0, ast.arg(_GROUPS))
    made = compile_as(ast.fix_missing_locations(definition), code)
    if made is None or set(made.co_freevars) != set(code.co_freevars):
        return None
    return made, rewriter.yields


class _Rewriter(ast.NodeTransformer):
    """Turns yield statements into groupings; ``refused`` tells of a yield that cannot be turned."""

    def __init__(self, sums: bool) -> None:
        self._sums = sums
        self._loops = 0
        self.refused = False
        self.yields = 0

    def visit_Expr(self, node: ast.Expr) -> Any:
        value = node.value
        if not isinstance(value, ast.Yield):
            return self.generic_visit(node)
        pair = value.value
        if not (isinstance(pair, ast.Tuple) and len(pair.elts) == 2) or any(
            isinstance(inner, (ast.Yield, ast.YieldFrom, ast.Starred)) for inner in ast.walk(pair)
        ):
            return self._refuse(node)
        if self._loops and not self._sums:
            return self._refuse(node)
        self.yields += 1
        key, value = pair.elts
        group = ast.Subscript(ast.Name(_GROUPS, ast.Load()), key, ast.Store() if self._sums else ast.Load())
        if self._sums:
            made: ast.stmt = ast.AugAssign(group, ast.Add(), value)
        else:
            made = ast.Expr(ast.Call(ast.Attribute(group, "append", ast.Load()), [value], []))
        # The new nodes stand where the yield stood; the user's own keep their places.
        for new in ast.walk(made):
            if not hasattr(new, "lineno"):
                ast.copy_location(new, node)
        return made

    def _visit_loop(self, node: ast.AST) -> ast.AST:
        self._loops += 1
        self.generic_visit(node)
        self._loops -= 1
        return node

    visit_For = visit_While = visit_AsyncFor = _visit_loop

    def _refuse(self, node: ast.AST) -> ast.AST:
        self.refused = True
        return node

    # A yield that has a value or delegates; code that would see the engine's own errors, or another scope's yields.
    visit_Yield = visit_YieldFrom = visit_Try = visit_TryStar = visit_With = visit_AsyncFunctionDef = _refuse
    visit_FunctionDef = visit_ClassDef = visit_Lambda = _refuse
