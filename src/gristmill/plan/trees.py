"""The syntax tree of what users wrote, from any thread."""

from __future__ import annotations

import ast
import threading
import warnings

_TRIES = 5  # of a text whose tree another thread spoils
_one_tree = threading.RLock()  # a finalizer may want a tree while one is made


def parsed(text: str | bytes) -> ast.Module | None:
    """The syntax tree of a module, from any thread; None if it has none, or is nested too deeply for one.

    Until 3.12 Python counts the depth of the trees that it makes in one place for all threads. If a collection of
    garbage lets another thread run meanwhile, that makes a tree as well, the counts do not match, and both fail with a
    ``SystemError``. So ours are made one after the other, and once more where others spoil them.
    """
    for left in reversed(range(_TRIES)):
        try:
            with _one_tree, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what there is to say is said when the text is imported
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        except SystemError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")
