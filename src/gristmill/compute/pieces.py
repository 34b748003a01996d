"""Functions that are one expression, which can be written where they would be called.

A lambda or a ``def`` with one ``return`` is such a piece if its source is at hand and nothing in it could tell that it
is no function of its own any more:

- Its variables must be fresh at each call. So nothing that is evaluated later (a lambda or a generator within it) may
  hold its parameters, and it binds no names but those of comprehensions.
- It must not look at its own frame, as ``locals()`` does.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_VARARGS, CO_VARKEYWORDS
from types import CellType, FunctionType
from typing import Any

from gristmill.compute.source import Definition, builtins_of, definition_of

_REFUSED = CO_VARARGS | CO_VARKEYWORDS | CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
# What looks at the frame of its caller: by its own names, or for the variables that a text speaks of.
_LOOKS = frozenset(
    "locals vars dir eval exec super breakpoint set_trace currentframe stack _getframe query sql execute".split()
)


@dataclass(frozen=True)
class Home:
    """What functions must have in common to become one: their file, and where they find names that are global."""

    path: str
    globals: dict[str, Any] = field(compare=False)
    builtins: Any = field(compare=False)

    def holds(self, other: Home) -> bool:
        """Whether the other is the same home."""
        return self == other and self.globals is other.globals and self.builtins is other.builtins


@dataclass(frozen=True)
class Piece:
    """A function that is one expression.

    Attributes:
        body: the expression. It is shared: whoever changes it takes a copy.
        parameters: the names of those that it is called with.
        values: parameters that it is not called with → their defaults.
        cells: variables of the functions around it.
        plain: whether the expression can stand for the call. If not, only its ``loops`` can.
    """

    home: Home
    body: ast.expr
    parameters: tuple[str, ...]
    values: dict[str, Any]
    cells: dict[str, CellType]
    plain: bool

    @property
    def loops(self) -> ast.GeneratorExp | None:
        """The expression as a generator that can be written as loops, if it is one.

        Its variables would keep what they had in an earlier call: so none may be read before its loop begins.
        """
        body = self.body
        if not isinstance(body, ast.GeneratorExp):
            return None
        unbound = {name for part in body.generators for name in stored(part.target)}
        own = unbound | {*self.parameters, *self.values}
        if unbound & {*self.parameters, *self.values, *self.cells}:
            return None
        for part in body.generators:
            if not _is_names(part.target) or unbound & loaded(part.iter):
                return None
            unbound -= stored(part.target)
            if any(unbound & loaded(condition) for condition in part.ifs):
                return None
        expressions = [body.elt, *(some for part in body.generators for some in (part.iter, *part.ifs))]
        return body if all(_is_plain(some, own, own | set(self.cells)) for some in expressions) else None


def piece_of(function: Any, count: int) -> Piece | None:
    """The piece that a function is, called with so many arguments by place; None if there is any doubt."""
    if type(function) is not FunctionType or function.__code__.co_flags & _REFUSED:
        return None
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = function.__defaults__ or ()
    values = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    values.update(function.__kwdefaults__ or {})
    parameters, others = positional[:count], (*positional[count:], *keywords)
    if len(parameters) < count or not values.keys() >= set(others):
        return None
    body = _expression(definition_of(code))
    if body is None:
        return None
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    home = Home(code.co_filename, function.__globals__, builtins_of(function))
    own = {*positional, *keywords}
    plain = _is_plain(body, own, own | cells.keys())
    piece = Piece(home, body, parameters, {name: values[name] for name in others}, cells, plain)
    return piece if plain or piece.loops is not None else None


class Renamer(ast.NodeTransformer):
    """Copies an expression, with other names and in the same places."""

    def __init__(self, names: dict[str, ast.expr], pairs: Mapping[str, tuple[ast.expr, ast.expr]]) -> None:
        self._names, self._pairs = names, pairs

    def __call__(self, expression: ast.expr) -> ast.expr:
        copied: ast.expr = self.visit(deepcopy(expression))
        return copied

    def own(self, target: ast.expr, fresh: Callable[[str], ast.Name]) -> None:
        """Give new names to what a loop binds."""
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self._names.setdefault(node.id, ast.Name(fresh("x").id, ast.Load()))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        known = self._names.get(node.id)
        if known is None:
            return node
        new = ast.Name(known.id, node.ctx) if isinstance(known, ast.Name) else deepcopy(known)
        return ast.copy_location(new, node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Name) and node.value.id in self._pairs:
            part = self._pairs[node.value.id][_index(node.slice) or 0]
            return ast.copy_location(deepcopy(part), node)
        self.generic_visit(node)
        return node


def is_only_indexed(body: ast.expr, name: str) -> bool:
    """Whether a parameter is used for nothing but its first or second."""
    uses = sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(body))
    indexed = sum(
        isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
        and isinstance(node.ctx, ast.Load)
        and _index(node.slice) is not None
        for node in ast.walk(body)
    )
    return uses == indexed


def _index(node: ast.expr) -> int | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int and node.value in (0, 1) else None


def loaded(node: ast.AST) -> set[str]:
    """The names in an expression."""
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def stored(node: ast.AST) -> set[str]:
    """The names that an expression binds, in whatever scope."""
    return {
        inner.arg if isinstance(inner, ast.arg) else inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.arg) or (isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load))
    }


def is_pair(node: ast.expr) -> bool:
    """Whether an expression is a display of two."""
    return isinstance(node, ast.Tuple) and len(node.elts) == 2 and not any(_starred(node.elts))


def _starred(nodes: Iterable[ast.expr]) -> Iterator[bool]:
    return (isinstance(node, ast.Starred) for node in nodes)


def _expression(definition: Definition | None) -> ast.expr | None:
    if isinstance(definition, ast.Lambda):
        return definition.body
    if definition is None:
        return None
    body: Sequence[ast.stmt] = definition.body
    if len(body) == 2 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # after the docstring
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None


def _is_plain(body: ast.expr, variables: set[str], own: set[str]) -> bool:
    """Whether an expression does the same where ``variables`` are those of a loop.

    Args:
        body: the expression.
        variables: what is bound anew for each record.
        own: the names that get others, which therefore must mean one thing each.
    """
    if stored(body) & own:
        return False
    for node in ast.walk(body):
        match node:
            case ast.NamedExpr() | ast.Yield() | ast.YieldFrom() | ast.Await() | ast.comprehension(is_async=1):
                return False
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _LOOKS:
                return False
            case ast.Lambda() if loaded(node) & variables:
                return False
            case ast.GeneratorExp(elt=elt, generators=[first, *others]):
                # The first iterable is taken at once.
                later = [elt, first.target, *first.ifs, *others]
                if any(loaded(some) & variables for some in later):
                    return False
    return True


def _is_names(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(map(_is_names, target.elts))
    return isinstance(target, ast.Name) or (isinstance(target, ast.Starred) and _is_names(target.value))
