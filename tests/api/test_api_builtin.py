"""Jobs that come with Gristmill: what they say, and what they can be told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill.api.builtin import BUILTIN, builtin_job, parameters_of
from gristmill.api.job import run_job
from gristmill.api.loading import load_builtin, load_job
from gristmill.config import JobOptions
from gristmill.errors import JobNotFound, UsageError

LOG = """\
1.2.3.4 - - [20/Nov/2026:13:25:36 +0000] "GET /cart?x=1 HTTP/1.1" 200 50 "-" "curl" 0.1
1.2.3.4 - - [20/Nov/2026:13:25:37 +0000] "GET /cart HTTP/1.1" 500 -
this is no hit
"""


def result(tmp_path: Path, name: str, text: str, params: dict[str, Any] | None = None) -> Iterator[tuple[Any, Any]]:
    """What a built-in job makes of a text."""
    (tmp_path / "in.txt").write_text(text)
    options = JobOptions(on="inline", reducers=1, data_dir=tmp_path / "data")
    with run_job(load_job(name, params), [str(tmp_path / "in.txt")], None, options) as found:
        yield from found


def test_each_job_of_the_list_is_there_and_says_what_it_does() -> None:
    for name in BUILTIN:
        cls = builtin_job(name)
        assert cls is not None and cls.__doc__
        assert all(parameters_of(cls).values())
    assert builtin_job("nothing") is None


def test_wordcount(tmp_path: Path) -> None:
    assert list(result(tmp_path, "wordcount", "b A a\nb")) == [("A", 1), ("a", 1), ("b", 2)]
    assert list(result(tmp_path, "wordcount", "b A a\nb", {"ignore_case": True})) == [("a", 2), ("b", 2)]


def test_grep(tmp_path: Path) -> None:
    lines = "one\nTwo\nthree\n"
    assert [line for _, line in result(tmp_path, "grep", lines, {"pattern": "^t"})] == ["three"]
    both = {"pattern": "^t", "ignore_case": "yes"}
    assert [line for _, line in result(tmp_path, "grep", lines, both)] == ["Two", "three"]
    assert [line for _, line in result(tmp_path, "grep", lines, {**both, "invert": "yes"})] == ["one"]


def test_distinct(tmp_path: Path) -> None:
    lines = "x\ny\n x\nx\n"
    assert list(result(tmp_path, "distinct", lines)) == [(" x", 1), ("x", 2), ("y", 1)]
    assert list(result(tmp_path, "distinct", lines, {"strip": "yes", "at_least": "2"})) == [("x", 3)]


def test_access_log(tmp_path: Path) -> None:
    found = dict(result(tmp_path, "access-log", LOG))
    assert found == {
        "/cart": "hits=2 bytes=50 errors=1 p50=0.100 p95=0.100 p99=0.100",
        "20/Nov/2026:13:25": "hits=2",
    }


@pytest.mark.parametrize(
    ("name", "params", "why"),
    [
        ("grep", {}, 'wants the parameter "pattern"'),
        ("grep", {"pattern": "("}, "is not a regular expression"),
        ("grep", {"pattern": "x" * 10_001}, "wants the parameter"),
        ("grep", {"patern": "x"}, "no parameter 'patern'. It has: pattern"),
        ("distinct", {"at_least": "many"}, "is a number"),
        ("access-log", {"x": 1}, "It has none"),
    ],
)
def test_what_they_cannot_be_told_is_said_before_anything_is_started(
    name: str, params: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why.replace("(", r"\(")):
        load_builtin(name, params)


def test_a_name_that_is_none() -> None:
    with pytest.raises(JobNotFound, match="There are: access-log"):
        load_builtin("word-count")


def test_the_command_line_knows_them(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from gristmill.cli.main import main

    (tmp_path / "in.txt").write_text("b a\nb\n")
    assert main(["run", "wordcount", str(tmp_path / "in.txt"), "--on", "inline", "--data-dir", str(tmp_path)]) == 0
    assert capfdbinary.readouterr().out == b"a\t1\nb\t2\n"
