"""Scripts of datasets, run by `gristmill run script.py` and by `python script.py`: whole processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from chaos_kit import family, looks

from gristmill.api.loading import is_script
from gristmill.shuffle.shelf import twin_of

COUNT = """
import sys
from operator import add

import gristmill as gm
from helper import clean

print(__name__, sys.argv[1:])
words = gm.read_text("in.txt").flat_map(str.split).map(clean)
print(sorted(words.map(lambda word: (word, 1)).reduce_by_key(add).collect()))
"""

# Something is kept, and an action waits.
SLOW = """
import pathlib, time
import gristmill as gm

kept = gm.range(1000, partitions=4).map(lambda n: str(n) * 1000).cache()
kept.count()

def wait(n):
    pathlib.Path("waits").touch()
    time.sleep(100)

try:
    gm.range(2, partitions=2).map(wait).collect()
finally:
    print("the script ends")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("GRISTMILL_DEBUG", raising=False)
    monkeypatch.delenv("GRISTMILL_ON", raising=False)
    (tmp_path / "helper.py").write_text("def clean(word):\n    return word.upper()\n")
    (tmp_path / "count.py").write_text(COUNT)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "in.txt").write_text("b a b\na\nb\n")
    return tmp_path


def gristmill(*args: str) -> list[str]:
    return [sys.executable, "-m", "gristmill.cli.main", *args]


def call(home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, cwd=home, env={**os.environ, **environment}, timeout=60, check=False
    )


def write(home: Path, source: str) -> str:
    (home / "script.py").write_text("import sys\nimport gristmill as gm\n" + dedent(source))
    return "script.py"


def has_twin(folder: Path) -> bool:
    """Whether something of a session lies in shared memory."""
    twin = twin_of(folder)
    return twin is not None and twin.exists()


COUNTED = "[('A', 2), ('B', 3)]\n"


@pytest.mark.parametrize("on", ["local", "inline"])
def test_a_script_is_run_as_python_would(home: Path, on: str) -> None:
    done = call(home, *gristmill("run", "count.py", "x", "--on", on, "--", "--rounds", "5"))
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "__main__ ['x', '--rounds', '5']\n" + COUNTED,
        "",
    )


@pytest.mark.parametrize("on", ["local", "inline", ""])
def test_python_alone_runs_it(home: Path, on: str) -> None:
    done = call(home, sys.executable, "count.py", "--y", GRISTMILL_ON=on)
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__ ['--y']\n" + COUNTED, "")
    assert not list((home / "data" / "jobs").iterdir())


def test_the_options_are_those_of_its_sessions(home: Path) -> None:
    source = """
        with gm.Session() as own, gm.Session(on="inline") as inline:
            print(own, inline, own._options.reducers, inline._options.reducers)
        print(gm.from_items(range(10)).key_by(lambda n: n).group_by_key().glom().count())
    """
    done = call(home, *gristmill("run", "--on", "inline", "--reducers", "3", write(home, source)))
    assert done.stdout == "<Session on inline, not started> <Session on inline, not started> 3 3\n3\n"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no more')", 1, "no more\n"),
        ("gm.read_text('nothing').count()", 2, "Error: The input nothing does not exist."),
        ("gm.from_items([]).first()", 1, "script.py:3: gm.from_items([]).first()"),
        ("raise KeyboardInterrupt", 130, "Interrupted.\n"),
    ],
)
def test_its_exit_code_is_pythons_or_says_what_failed(home: Path, line: str, code: int, said: str) -> None:
    done = call(home, *gristmill("run", "--on", "inline", write(home, line)))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_its_own_exceptions_are_shown_without_our_frames(home: Path) -> None:
    done = call(home, *gristmill("run", write(home, "def f():\n    {}['k']\nf()")))
    assert done.returncode == 1
    assert done.stderr.startswith(f'Traceback (most recent call last):\n  File "{home}/script.py", line 5, in <module>')
    assert done.stderr.endswith("KeyError: 'k'\n")


def test_a_function_that_fails_is_shown_by_its_line(home: Path) -> None:
    source = "def number(text):\n    return int(text)\ngm.from_items(['1', 'x']).map(number).collect()\n"
    done = call(home, *gristmill("run", "--executors", "2", write(home, source)))
    assert done.returncode == 1
    assert done.stderr.startswith("script.py:4, in number\n    return int(text)\nValueError: ")
    assert "Record   'x'" in done.stderr
    assert "script.py:5: gm.from_items(['1', 'x']).map(number).collect()" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-o", "out"], "-o is not for script.py"),
        (["--set", "a=1"], "give a script its arguments behind --"),
        (["--resume"], "--resume is not for script.py"),
        (["--json"], "--json is not for script.py"),
        (["--on", "http://h:1", "--executors", "2"], "are for jobs here: a server's workers have their own"),
        (["--rounds", "5"], "No such option '--rounds'"),
    ],
)
def test_options_of_jobs_are_refused(home: Path, options: list[str], said: str) -> None:
    done = call(home, *gristmill("run", write(home, "print('ran')"), *options))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("source", "script"),
    [
        ("import gristmill as gm\ngm.range(3).count()", True),
        ("from gristmill import read_text\n", True),
        ("def f():\n    import gristmill.api\n", True),
        ("print('nothing of ours')", False),
        ("from gristmill import MapReduce\nclass A(MapReduce): pass", False),
        ("import gristmill\nclass A(gristmill.MapReduce): pass", False),
        ("import gristmill\ndef mapper(_, line): yield line, 1", False),
        ("import gristmill\nfrom lib import reducer", False),
        ("import gristmill\nif True:\n    reducer = sum", False),
        ("import gristmill\nfrom lib import Base\nclass A(Base):\n    def mapper(self, _, line): ...", False),
        ("import gristmill\nclass A:\n    def mapper(self, _, line): ...", True),
        ("import gristmill\ndef f():\n    def mapper(): ...", True),
        ("import gristmill as\n", False),
    ],
)
def test_a_script_is_told_from_a_job(tmp_path: Path, source: str, script: bool) -> None:
    (tmp_path / "x.py").write_text(source)
    assert is_script(str(tmp_path / "x.py")) is script
    assert not is_script(f"{tmp_path / 'x.py'}:Name")


def test_what_is_neither_is_told(home: Path) -> None:
    (home / "neither.py").write_text("print('hello')")
    done = call(home, *gristmill("run", "neither.py", "in.txt"))
    assert done.returncode == 2
    assert "does not import gristmill" in done.stderr
    (home / "mine.py").write_text("import gristmill as gm\ndef act(): return gm.range(3).count()")
    (home / "hidden.py").write_text("import mine\nprint(mine.act())")
    done = call(home, *gristmill("run", "hidden.py", "in.txt"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Run it with python" in done.stderr


def test_a_job_needs_inputs(home: Path) -> None:
    (home / "job.py").write_text("def mapper(_, line): yield line, 1")
    done = call(home, *gristmill("run", "job.py"))
    assert done.returncode == 2
    assert "Missing argument 'INPUT...'" in done.stderr


class Running:
    """A script in a process of its own, whose family can be found."""

    def __init__(self, home: Path, *command: str) -> None:
        self.mark = f"{home.name}-{time.monotonic_ns()}"
        self.process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, "CHAOS_MARK": self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: (home / "waits").exists() or self.process.poll() is not None)
        assert self.process.poll() is None

    def end(self, number: signal.Signals) -> tuple[str, str]:
        self.process.send_signal(number)
        said = self.process.communicate(timeout=60)
        wait_until(lambda: not family(self.mark))
        return said


def wait_until(condition: object, seconds: float = 60.0) -> None:
    for _ in looks(seconds, lambda: "waited for too long"):
        if condition():  # type: ignore[operator]
            return


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_an_interrupted_script_leaves_nothing(home: Path, number: signal.Signals) -> None:
    running = Running(home, *gristmill("run", "--executors", "2", "slow.py"))
    out, err = running.end(number)
    assert (running.process.returncode, out) == (130, "the script ends\n")
    assert "Traceback" not in err
    session = [folder for folder in (home / "data" / "jobs").iterdir() if (folder / "blocks").exists()]
    assert not [block for folder in session for block in (folder / "blocks").iterdir()]


@pytest.mark.skipif(sys.platform != "linux", reason="shared memory as on Linux")
@pytest.mark.parametrize("command", [[sys.executable, "slow.py"], gristmill("run", "--executors", "2", "slow.py")])
def test_what_a_killed_script_leaves_is_gone_with_the_next_run(home: Path, command: list[str]) -> None:
    running = Running(home, *command)
    running.end(signal.SIGKILL)  # and no process stays
    left = list((home / "data" / "jobs").iterdir())
    assert len(left) == 2  # the session, and the job that was running
    assert any(has_twin(folder) for folder in left)
    done = call(home, *gristmill("run", "--on", "inline", "count.py"))
    assert done.returncode == 0
    assert not list((home / "data" / "jobs").iterdir())
    assert not any(has_twin(folder) for folder in left)
