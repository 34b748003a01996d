"""The commonest mistakes with datasets, as those who make them see them: what happened, where, and what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest

import gristmill as gm
from gristmill.errors import GristmillError, JobFailed, UserCodeError


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gm.Session]:
    with gm.Session(on="inline", data_dir=tmp_path_factory.mktemp("data"), max_attempts=1) as session:
        yield session


def _guarded(session: gm.Session) -> Any:
    lock = threading.Lock()

    def guarded(x: int) -> int:
        with lock:
            return x

    return session.range(3).map(guarded).collect()


def _other_session(session: gm.Session) -> Any:
    with gm.Session(on="inline") as other:
        return session.from_items([(1, 2)]).join(other.from_items([(1, 2)]))


def _closed_session(_: gm.Session) -> Any:
    with gm.Session(on="inline") as other:
        numbers = other.range(3)
    return numbers.count()


MISTAKES: list[tuple[Callable[[Any], Any], list[str]]] = [
    (lambda s: s.read_text("no/such/file.txt").count(), ["no/such/file.txt does not exist"]),
    (lambda s: s.read_text("s4://bucket/key").count(), ["s4://bucket/key", "fsspec", "Install"]),
    (_guarded, ["with lock:", "uses the variable 'lock'", "Make it within", __file__]),
    (lambda s: s.range(3).map(lambda x: s.range(x).count()).collect(), ["<lambda> uses the variable 's'"]),
    (_other_session, ["different sessions", "Make both with the same one"]),
    (_closed_session, ["session was closed", "Make another"]),
    (lambda s: s.range(3).reduce(add) and s.range(0).reduce(add), ["reduce() of a dataset without", "fold()"]),
    (lambda s: s.range(99_999).map(str).collect(limit="10KiB"), ["at most 10.0 KiB", "write_parquet", "limit="]),
    (lambda s: s.from_items(["ann"]).join(s.from_items([("ann", 3)])).collect(), ["join() takes (key, value) pairs"]),
    (lambda s: s.range(3).filter(3), ["filter() takes a function; 3 is none"]),
    (lambda s: s.range(3).write_text("x", mod="append"), ["no option 'mod'", "mode"]),
    (lambda s: s.read_csv("x.csv", columns="name"), ["columns=['name']"]),
    (lambda s: s.from_items("text"), ["is a text. Write [text]"]),
    (lambda s: s.from_items([1]).repartition(0), ["at least 1"]),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES, ids=[words[0][:40] for _, words in MISTAKES])
def test_mistakes_say_what_to_do(session: gm.Session, mistake: Any, words: list[str]) -> None:
    with pytest.raises(GristmillError) as caught:
        mistake(session)
    text = str(caught.value)
    assert [word for word in words if word not in text] == [], text
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}gristmill{os.sep}" in frame.filename]
    assert len(ours) == 1 and frames[-2].filename == __file__, "the last line but one is the user's"
    shown = "".join(traceback.format_exception(caught.value))
    assert isinstance(caught.value, JobFailed) or "direct cause" not in shown


def test_an_output_that_is_there(session: gm.Session, tmp_path: Path) -> None:
    session.range(3).write_text(tmp_path / "out")
    with pytest.raises(gm.OutputExists, match='mode="overwrite", or add to it with mode="append"'):
        session.range(3).write_text(tmp_path / "out")


def test_a_program_finds_the_cause(session: gm.Session) -> None:
    with pytest.raises(JobFailed) as caught:
        session.from_items(["x"]).map(int).sum()
    error = caught.value
    assert isinstance(error.__cause__, UserCodeError) and error.__cause__.report == error.report


def test_all_of_a_traceback_can_be_asked_for(session: gm.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_FULL_TRACEBACKS", "1")
    with pytest.raises(gm.InputMissing) as caught:
        session.read_text("no/such/file.txt").count()
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 5


def test_mistakes_of_ours_keep_their_tracebacks(session: gm.Session) -> None:
    with pytest.raises(AttributeError) as caught:
        session.range(3).union(3)  # type: ignore[arg-type]
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 2


def test_a_method_is_still_what_it_was() -> None:
    assert gm.Dataset.map.__name__ == "map" and "function" in gm.Dataset.map.__annotations__
    assert "partitions" in repr(__import__("inspect").signature(gm.Dataset.reduce_by_key))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there Python asks for the cause to show it")
def test_a_script_shows_its_own_lines_and_the_message(tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(
        "import gristmill as gm\n\n\ndef parse(line):\n    return int(line)\n\n\n"
        'print(gm.from_items(["1", "x"]).map(parse).collect())\n'
    )
    environment = {**os.environ, "GRISTMILL_ON": "inline", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    lines = done.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):", done.stderr
    assert f'File "{script}", line 8, in <module>' in lines[1]
    assert "direct cause" not in done.stderr and done.stderr.count("File ") == 2
    message = done.stderr.partition("gristmill.errors.JobFailed: ")[2].splitlines()
    assert message[1:4] == [f"{script}:5, in parse", "    return int(line)", message[3]]
    assert "invalid literal" in message[3] and f"in the step: map, built at {script}:8" in message


def test_a_dataset_is_not_iterated_over_unasked(session: gm.Session) -> None:
    numbers: Any = session.range(3)
    for mistake in (list, max, session.from_items):
        with pytest.raises(TypeError, match=r"Call iterate\(\)"):
            mistake(numbers)


@pytest.mark.parametrize("level", ["MEMORY", "DISK"])
def test_a_step_over_what_is_kept_shows_the_record(session: gm.Session, level: str) -> None:
    kept = session.range(40, partitions=4).map(lambda n: {"n": n} if level == "DISK" else n).persist(level)
    kept.count()
    with pytest.raises(JobFailed) as failed:
        kept.map(lambda row: 1 // (row["n"] - 23 if level == "DISK" else row - 23)).filter(bool).collect()
    assert ("{'n': 23}" if level == "DISK" else "23") in str(failed.value)
    assert "partition 2" in str(failed.value)


def test_a_session_that_cannot_be_shows_the_line_that_wanted_it() -> None:
    with pytest.raises(GristmillError, match="'there' is not a place to run on") as failed:
        gm.Session(on="there")
    assert len(traceback.extract_tb(failed.tb)) == 2
