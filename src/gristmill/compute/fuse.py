"""Compiles a chain of a dataset's narrow operators, and the fold behind it, into one loop.

``flat_map(str.split).map(lambda word: (word, 1)).reduce_by_key(add)`` becomes what a person would write by hand::

    for line in records:
        for word in split(line):
            try:
                folded = groups[word]
            except KeyError:
                first(word, 1)
            else:
                groups[word] = folded + 1

Lambdas and functions of one expression are written out where they would be called (see ``pieces``), with the user's
globals, the cells of his closures, and his line numbers; all else is called. Pairs that are taken apart at once are
never built. Elements pass one at a time, and no record is taken ahead.

A fused function never succeeds where the operators would fail, or with another result. It may fail in other ways:
whoever calls it runs a record that failed again by the plain operators, for the true error.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, overload

from gristmill.compute.pieces import Home, Piece, Renamer, is_only_indexed, is_pair, piece_of
from gristmill.compute.source import TYPE_PARAMS, builtins_of, compile_within
from gristmill.plan.functions import Call, Fold

Grouping = Callable[[dict[Any, Any], Iterator[Any], Callable[[Any, Any], None]], None]
"""``f(groups, records, first)``: ``first(key, value)`` is called for each key that is not in ``groups``, which must be
a plain dict, or has no equal there (NaN); or whose hash or equality raised KeyError."""
Streaming = Callable[[Iterator[Any]], Iterator[Any]]

# No user's variable can have these names, since they are no identifiers.
_GROUPS, _RECORDS, _FIRST, _FOLDED, _MISSING = ".groups", ".records", ".first", ".folded", ".KeyError"
_NAME = "fused"
_MOST_LOOPS = 16  # Python nests 20 blocks
_WORTH_FUSING = 3  # operators that only call functions, and put nothing into groups: fewer are as fast by themselves
_OPERATORS: dict[Any, type[ast.operator]] = {
    operator.add: ast.Add,
    operator.mul: ast.Mult,
    operator.and_: ast.BitAnd,
    operator.or_: ast.BitOr,
    operator.xor: ast.BitXor,
}
_CHOICES: dict[Any, type[ast.cmpop]] = {max: ast.Gt, min: ast.Lt}  # the second is taken if it is so to the first


@overload
def fuse(calls: Sequence[Call], fold: Fold) -> Grouping | None: ...
@overload
def fuse(calls: Sequence[Call], fold: None = None) -> Streaming | None: ...
def fuse(calls: Sequence[Call], fold: Fold | None = None) -> Grouping | Streaming | None:
    """One function for narrow operators that follow each other.

    Args:
        calls: ``map``, ``filter``, ``flat_map``, ``map_values``, ``flat_map_values``, ``key_by`` with a function;
            ``keys``, ``values``.
        fold: what their pairs go into; None: they give a stream of elements.

    Returns:
        None if there is any doubt that it would do the same, or if it would not be faster.
    """
    if not all(map(_is_known, calls)):
        return None
    functions = [call.arguments[0] if call.arguments else None for call in calls]
    writer = _Writer(_home_of(functions, fold))
    element = writer.loop(_load(_RECORDS))
    for call, function in zip(calls, functions, strict=True):
        writer.at(call.where)
        element = _APPLY[call.how](writer, function, element)
    if writer.loops > _MOST_LOOPS:
        return None
    if fold is not None:
        writer.group(element, fold.merge_value)
        grouping: Grouping | None = writer.compile((_GROUPS, _RECORDS, _FIRST))
        return grouping
    if not writer.inlined and len(calls) < _WORTH_FUSING:
        return None
    writer.put(ast.Expr(ast.Yield(writer.whole(element))))
    streaming: Streaming | None = writer.compile((_RECORDS,))
    return streaming


def _is_known(call: Call) -> bool:
    wanted = 0 if call.how in ("keys", "values") else 1
    plain = call.how in _APPLY and call.inputs == 1 and not call.sides and len(call.arguments) == wanted
    return plain and all(map(callable, call.arguments))


def _home_of(functions: Sequence[Any], fold: Fold | None) -> Home | None:
    """Where the first function that can be written out is at home."""
    pieces = [piece_of(function, 1) for function in functions]
    if fold is not None:
        pieces.append(piece_of(fold.merge_value, 2))
    return next((piece.home for piece in pieces if piece is not None), None)


@dataclass
class _Element:
    """What the compiled function knows of an element: where it is, or where its key and its value are, or both.

    It is in a constant, or in a variable that is bound once for each element and may be read as often as one likes.
    ``taken`` tells that the pair was taken out of an element, of which we do not know that it is a tuple.
    """

    whole: ast.expr | None = None
    pair: tuple[_Element, _Element] | None = None
    taken: bool = False


class _Writer:
    """Writes the function, statement after statement, into the innermost loop."""

    def __init__(self, home: Home | None) -> None:
        self._home = home
        self._count = 0
        self._variables: set[str] = set()
        self._constants: dict[str, Any] = {_MISSING: KeyError}  # variable → what it is all the time
        self._cells: dict[str, CellType] = {}
        self._line = 1
        self._statements: list[ast.stmt] = []
        self._block = self._statements
        self.loops = 0
        self.inlined = 0

    def at(self, where: str) -> None:
        """What is written from now on stands for the user's line that asked for it."""
        path, _, line = where.rpartition(":")
        if self._home is not None and line.isdecimal() and Path(self._home.path).name == Path(path).name:
            self._line = max(1, int(line))

    def put(self, statement: ast.stmt) -> None:
        """Write a statement."""
        for node in ast.walk(statement):
            if "lineno" in node._attributes and not hasattr(node, "lineno"):
                _place(node, self._line)
        self._block.append(statement)

    def loop(self, iterable: ast.expr, target: ast.expr | None = None) -> _Element:
        """Begin a loop; all that follows is in it."""
        variable = target or self._fresh("x")
        loop = ast.For(variable, iterable, [], [])
        self.put(loop)
        self._block = loop.body
        self.loops += 1
        return _Element(_loaded(variable)) if target is None else _Element()

    def unless(self, condition: ast.expr) -> None:
        """Go on to the next element unless the condition is true."""
        self.put(ast.If(ast.UnaryOp(ast.Not(), condition), [ast.Continue()], []))

    def each(self, function: Any, element: _Element) -> _Element:
        """Loop over what a function makes of an element."""
        piece = self._piece(function, 1)
        generator = piece.loops if piece is not None else None
        if piece is None or generator is None:
            return self.loop(self.result(function, element))
        self.inlined += 1
        rename = self._renamer(piece, generator, (element,))
        for part in generator.generators:
            iterable = rename(part.iter)
            rename.own(part.target, self._fresh)
            self.loop(iterable, rename(part.target))
            for condition in part.ifs:
                self.unless(rename(condition))
        return self.element(rename(generator.elt))

    def result(self, function: Any, *elements: _Element) -> ast.expr:
        """A function's result, as an expression that is to be evaluated once."""
        piece = self._piece(function, len(elements))
        if piece is None or not piece.plain:
            return ast.Call(self._constant(function), [self.whole(element) for element in elements], [])
        self.inlined += 1
        return self._renamer(piece, piece.body, elements)(piece.body)

    def element(self, expression: ast.expr) -> _Element:
        """Evaluate what gives an element."""
        if is_pair(expression):
            assert isinstance(expression, ast.Tuple)
            key, value = map(self.element, expression.elts)
            return _Element(pair=(key, value))
        return _Element(self.value(expression))

    def value(self, expression: ast.expr) -> ast.expr:
        """Evaluate an expression, unless it is a constant or a variable of ours."""
        if isinstance(expression, ast.Constant):
            return expression
        if isinstance(expression, ast.Name) and expression.id in self._variables:
            return expression
        variable = self._fresh("x")
        self.put(ast.Assign([variable], expression))
        return _loaded(variable)

    def whole(self, element: _Element) -> ast.expr:
        """Where an element is; a pair is built if need be."""
        if element.whole is None:
            assert element.pair is not None
            element.whole = self.value(ast.Tuple([self.whole(part) for part in element.pair], ast.Load()))
        return element.whole

    def pair(self, element: _Element) -> tuple[_Element, _Element]:
        """Where an element's key and value are; it is taken apart if need be."""
        if element.pair is None:
            assert element.whole is not None
            key, value = self._fresh("k"), self._fresh("v")
            self.put(ast.Assign([ast.Tuple([key, value], ast.Store())], element.whole))
            element.pair = _Element(_loaded(key)), _Element(_loaded(value))
            element.taken = True
        return element.pair

    def group(self, element: _Element, merge: Callable[[Any, Any], Any]) -> None:
        """Fold the value into what its key has; user code is out of reach of the ``except``."""
        left, value = self.pair(element)
        key, folded = self.whole(left), _load(_FOLDED)
        lookup = ast.Assign([ast.Name(_FOLDED, ast.Store())], ast.Subscript(_load(_GROUPS), key, ast.Load()))
        first = ast.Expr(ast.Call(_load(_FIRST), [key, _built(value)], []))
        attempt = ast.Try([lookup], [ast.ExceptHandler(_load(_MISSING), None, [first])], [], [])
        self.put(attempt)
        self._block = attempt.orelse
        merged = self._merged(merge, folded, value)
        self.put(ast.Assign([ast.Subscript(_load(_GROUPS), key, ast.Store())], merged))

    def compile(self, parameters: Sequence[str]) -> Any:
        """The function."""
        arguments = ast.arguments(
            posonlyargs=[],
            args=[ast.arg(name) for name in (*parameters, *self._constants)],
            kwonlyargs=[],
            kw_defaults=[],
            defaults=[ast.Constant(None) for _ in self._constants],
        )
        definition = ast.FunctionDef(_NAME, arguments, self._statements, [], **TYPE_PARAMS)
        _place(definition, 1)
        path = self._home.path if self._home else __file__
        try:
            [code] = compile_within(definition, tuple(self._cells), path)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        scope = self._home.globals if self._home else {}
        closure = tuple(self._cells[name] for name in code.co_freevars)
        function = FunctionType(code, scope, _NAME, tuple(self._constants.values()), closure)
        same = self._home is None or builtins_of(function) is self._home.builtins
        return function if same else None

    def _merged(self, merge: Callable[[Any, Any], Any], folded: ast.expr, value: _Element) -> ast.expr:
        for function, operation in _OPERATORS.items():
            if merge is function:
                return ast.BinOp(folded, operation(), self.whole(value))
        for function, better in _CHOICES.items():
            if merge is function:
                new = self.whole(value)
                return ast.IfExp(ast.Compare(new, [better()], [folded]), new, folded)
        return self.result(merge, _Element(folded), value)

    def _piece(self, function: Any, count: int) -> Piece | None:
        piece = piece_of(function, count)
        return piece if piece is not None and self._home is not None and self._home.holds(piece.home) else None

    def _renamer(self, piece: Piece, body: ast.expr, elements: Sequence[_Element]) -> Renamer:
        """Something to write a piece's expressions with, in our names."""
        names: dict[str, ast.expr] = {}
        pairs: dict[str, tuple[ast.expr, ast.expr]] = {}
        for parameter, element in zip(piece.parameters, elements, strict=True):
            if element.pair is not None and not element.taken and is_only_indexed(body, parameter):
                key, value = map(self.whole, element.pair)
                pairs[parameter] = key, value
            else:
                names[parameter] = self.whole(element)
        for name, default in piece.values.items():
            names[name] = self._constant(default)
        for name, cell in piece.cells.items():
            variable = self._name("c")
            self._cells[variable] = cell
            names[name] = _load(variable)
        return Renamer(names, pairs)

    def _constant(self, value: Any) -> ast.expr:
        variable = self._name("f")
        self._constants[variable] = value
        return _load(variable)

    def _fresh(self, kind: str) -> ast.Name:
        variable = self._name(kind)
        self._variables.add(variable)
        return ast.Name(variable, ast.Store())

    def _name(self, kind: str) -> str:
        self._count += 1
        return f".{kind}{self._count}"


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _built(element: _Element) -> ast.expr:
    """An element as an expression, of which nothing is evaluated but what builds it."""
    if element.whole is not None:
        return element.whole
    assert element.pair is not None
    return ast.Tuple([_built(part) for part in element.pair], ast.Load())


def _place(node: Any, line: int) -> None:
    node.lineno = node.end_lineno = line
    node.col_offset = node.end_col_offset = 0


def _loaded(variable: ast.expr) -> ast.expr:
    assert isinstance(variable, ast.Name)
    return _load(variable.id)


def _map(writer: _Writer, function: Any, element: _Element) -> _Element:
    return writer.element(writer.result(function, element))


def _filter(writer: _Writer, function: Any, element: _Element) -> _Element:
    writer.unless(writer.result(function, element))
    return element


def _map_values(writer: _Writer, function: Any, element: _Element) -> _Element:
    key, value = writer.pair(element)
    return _Element(pair=(key, writer.element(writer.result(function, value))))


def _flat_map_values(writer: _Writer, function: Any, element: _Element) -> _Element:
    key, value = writer.pair(element)
    writer.whole(key)  # once for all of its values
    return _Element(pair=(key, writer.each(function, value)))


def _key_by(writer: _Writer, function: Any, element: _Element) -> _Element:
    return _Element(pair=(writer.element(writer.result(function, element)), element))


_APPLY: dict[str, Callable[[_Writer, Any, _Element], _Element]] = {
    "map": _map,
    "filter": _filter,
    "flat_map": lambda writer, function, element: writer.each(function, element),
    "map_values": _map_values,
    "flat_map_values": _flat_map_values,
    "key_by": _key_by,
    "keys": lambda writer, _, element: writer.pair(element)[0],
    "values": lambda writer, _, element: writer.pair(element)[1],
}
