"""Syntax trees that several threads want at once."""

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gristmill.plan.trees import parsed


def test_threads_that_want_trees_at_once_all_get_them() -> None:
    """Until 3.12 a tree fails if the collector lets another thread begin one meanwhile: here it often does."""
    text = Path(ast.__file__).read_text()
    wanted = ast.dump(ast.parse(text))

    def let_others_run(*_: object) -> None:
        time.sleep(0)

    thresholds = gc.get_threshold()
    gc.callbacks.append(let_others_run)
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as pool:
            trees = list(pool.map(parsed, [text] * 20))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_run)
    assert [tree is not None and ast.dump(tree) == wanted for tree in trees] == [True] * 20


@pytest.mark.parametrize("text", ["def f(:", b"\xff\xfe", "a\0b", "(" * 500 + ")" * 500, "-" * 100_000 + "1"])
def test_what_has_no_tree_is_none(text: str | bytes) -> None:
    assert parsed(text) is None
