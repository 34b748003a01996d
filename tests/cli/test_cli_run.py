"""`gristmill run` and `python job.py` as a user meets them: whole processes, real jobs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORDCOUNT = """
from gristmill import MapReduce

class WordCount(MapReduce):
    def mapper(self, _, line):
        for word in line.split():
            self.counter("words", "seen")
            yield word, 1

    def reducer(self, word, counts):
        yield word, sum(counts)
"""

FAILING = """
from gristmill import MapReduce


def number_of(text):
    return int(text)


def numbers_of(line):
    return [number_of(text) for text in line.split()]


class Sum(MapReduce):
    def mapper(self, _, line):
        yield "sum", sum(numbers_of(line))

    def reducer(self, key, sums):
        yield key, sum(sums)
"""

SLOW = """
import time
from gristmill import MapReduce

class Slow(MapReduce):
    def mapper(self, _, line):
        time.sleep(float(self.params.get("seconds", 60)))
        yield line, 1
"""

SUMMARY_FIELDS = [
    "job_id", "state", "output", "map_tasks", "reduce_tasks", "attempts", "failed_attempts", "records_in",
    "records_out", "shuffle_bytes", "seconds", "counters",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("GRISTMILL_DEBUG", raising=False)
    for name, text in {"wordcount.py": WORDCOUNT, "failing.py": FAILING, "slow.py": SLOW}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "in.txt").write_bytes(b"b a b\nc\xff a\n")
    (tmp_path / "numbers.txt").write_text("1 2\n3 oops 4\n5\n")
    return tmp_path


def gristmill(*args: str) -> list[str]:
    return [sys.executable, "-m", "gristmill.cli.main", *args]


def call(home: Path, *command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, cwd=home, env=environment, timeout=60, check=False)


def test_the_result_goes_to_stdout_and_the_rest_to_stderr(home: Path) -> None:
    done = call(home, *gristmill("run", "wordcount.py", "in.txt"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"a\t2\nb\t2\nc\xff\t1\n"
    assert done.stderr.startswith(b"Done in ")
    assert re.search(rb"words\.seen +5\n", done.stderr)
    assert b"\x1b" not in done.stderr


def test_a_script_without_main_guard_runs_with_an_output_and_a_json_summary(home: Path) -> None:
    done = call(home, *gristmill("run", "wordcount.py:WordCount", "in.txt", "-o", "out", "--reducers", "2", "--json"))
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert list(summary) == SUMMARY_FIELDS
    assert (summary["state"], summary["output"], summary["reduce_tasks"]) == ("succeeded", "out", 2)
    assert (summary["records_in"], summary["records_out"]) == (2, 3)
    assert summary["counters"] == {"words": {"seen": 5}}
    assert (home / "out" / "_SUCCESS").exists()


def test_the_job_as_a_script_of_its_own(home: Path) -> None:
    (home / "own.py").write_text(WORDCOUNT + '\nif __name__ == "__main__":\n    WordCount.main()\n')
    done = call(home, sys.executable, "own.py", "in.txt", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert b"out" in done.stderr
    again = call(home, sys.executable, "own.py", "in.txt", "-o", "out")
    assert again.returncode == 2
    assert b"--overwrite" in again.stderr and b"Traceback" not in again.stderr
    assert call(home, sys.executable, "own.py", "in.txt", "-o", "out", "--overwrite").returncode == 0
    usage = call(home, sys.executable, "own.py", "--outptu", "x")
    assert usage.returncode == 2
    assert usage.stderr.startswith(b"Usage: own.py ") and b"--output" in usage.stderr


def test_bare_functions_are_a_job(home: Path) -> None:
    (home / "bare.py").write_text(
        "def mapper(_, line):\n    yield len(line), 1\n\n\ndef reducer(n, ones):\n    yield n, sum(ones)\n"
    )
    done = call(home, *gristmill("run", "bare.py", "in.txt", "--on", "inline"))
    assert (done.returncode, done.stdout) == (0, b"4\t1\n5\t1\n"), done.stderr


@pytest.mark.parametrize("on", ["inline", "local"])
def test_a_mistake_in_the_job_is_shown_by_its_own_line(home: Path, on: str) -> None:
    args = ("failing.py", "numbers.txt", "-o", "out", "--max-attempts", "2", "--on", on, "--json")
    done = call(home, *gristmill("run", *args))
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[:3] == [
        "failing.py:6, in number_of",
        "    return int(text)",
        "ValueError: invalid literal for int() with base 10: 'oops'",
    ]
    text = "\n".join(lines)
    assert "Record   '3 oops 4'" in text
    assert "In       numbers.txt, at byte 4" in text
    assert "in the mapper, tried 2 times" in text
    assert "Traceback" not in text and "src/gristmill" not in text
    assert json.loads(done.stdout)["state"] == "failed"
    assert not (home / "out").exists()
    (folder,) = re.findall(r"^Kept +(\S+)", text, re.MULTILINE)
    assert (home / folder).is_dir()


def test_debugging_adds_the_engines_traceback(home: Path) -> None:
    args = ("failing.py", "numbers.txt", "--max-attempts", "1", "--on", "inline")
    done = call(home, *gristmill("run", *args), env={"GRISTMILL_DEBUG": "1"})
    assert done.returncode == 1
    assert b"Traceback" in done.stderr


def test_bad_records_set_aside_are_named(home: Path) -> None:
    args = ("failing.py", "numbers.txt", "-o", "out", "--max-bad-records", "1")
    done = call(home, *gristmill("run", *args))
    assert done.returncode == 0, done.stderr
    assert b"1 record was set aside in out/_bad_records/" in done.stderr
    (file,) = (home / "out" / "_bad_records").iterdir()
    assert "oops" in file.read_text()
    assert (home / "out" / "part-r-00000").read_text() == "sum\t8\n"


def test_a_record_over_the_limit_is_refused_and_says_how_to_raise_it(home: Path) -> None:
    (home / "long.txt").write_text("a\n" + "b" * 3000 + "\n")
    args = ("run", "wordcount.py", "long.txt", "--max-record-size")
    done = call(home, *gristmill(*args, "2KiB"))
    assert done.returncode == 1
    assert b"A record of 2.9 KiB is longer than the limit of 2.0 KiB." in done.stderr
    assert b"give a larger --max-record-size" in b" ".join(done.stderr.split())
    assert call(home, *gristmill(*args, "3KiB")).returncode == 0


def test_missing_input_is_wrong_use(home: Path) -> None:
    done = call(home, *gristmill("run", "wordcount.py", "nothing.txt"))
    assert done.returncode == 2
    assert b"nothing.txt" in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_job_leaves_nothing_partial(home: Path, number: signal.Signals) -> None:
    command = gristmill("run", "slow.py", "in.txt", "-o", "out")
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _wait_for(lambda: list(home.glob("data/jobs/*/*")) and list(home.glob(".out*")), seconds=60)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert b"ancelled" in err and b"Traceback" not in err
    assert not list(home.glob("out*")) and not list(home.glob(".out*"))


def _wait_for(what: object, seconds: float) -> None:
    assert callable(what)
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_shows_bars_and_stdout_stays_clean(home: Path) -> None:
    import pty

    master, slave = pty.openpty()
    command = gristmill("run", "slow.py", "in.txt", "--set", "seconds=0.6")
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=slave, env=env) as process:
        os.close(slave)
        seen = b""
        while chunk := _read(master):
            seen += chunk
        assert process.stdout
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    os.close(master)
    text = seen.decode()
    assert "map" in text and "━" in text and "100%" in text and "records" in text
    assert "Done in" in text
    assert sorted(out.splitlines()) == [b"b a b\t1", b"c\xff a\t1"]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux: the other end is closed
        return b""


def test_a_reader_that_has_enough_ends_it_quietly(home: Path) -> None:
    (home / "many.txt").write_text("".join(f"{n}\n" for n in range(100_000)))
    with subprocess.Popen(
        gristmill("run", "wordcount.py", "many.txt"), cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"0\t1\n"
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert b"Traceback" not in err and b"Broken" not in err


# The demo, where the standard library is what argv[1] says; or the real one.
DEMO = """
import sys, sysconfig
from pathlib import Path

from gristmill.cli.main import main

if sys.argv[1]:
    sysconfig.get_path = lambda name: sys.argv[1]
sys.exit(main(["demo"]))
"""


@pytest.mark.parametrize("part", ["json", pytest.param("", marks=pytest.mark.soak)])
def test_the_demo_counts_the_standard_library(part: str, tmp_path: Path) -> None:
    from collections import Counter
    from sysconfig import get_path

    from gristmill.cli.demo import chart, library_sources, most_common
    from gristmill.cli.demo_job import _find_words

    library = Path(get_path("stdlib"))
    if part:
        library = shutil.copytree(library / part, tmp_path / part)
    command = [sys.executable, "-c", DEMO, str(library) if part else ""]
    done = subprocess.run(command, capture_output=True, timeout=110, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    counts: Counter[str] = Counter()
    for path in library_sources(library):
        counts.update(_find_words(path.read_bytes().decode("utf-8", "surrogateescape")))
    total, top = most_common(counts.items(), 20)
    assert len(top) == 20
    assert "\n".join(chart(top)) in done.stdout
    assert f"{total:,} words, {len(counts):,} different" in done.stdout
    assert "gristmill run gristmill.cli.demo_job:WordCount" in done.stdout
