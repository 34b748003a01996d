"""The command line's own manners: help, suggestions, wrong use, start-up."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

import gristmill
from gristmill.cli.main import main, run_guarded
from gristmill.errors import JobCancelled, JobFailed, OutputExists


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("run", "submit", "serve", "worker", "demo", "generate"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gristmill {gristmill.__version__}\n"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["runn"], "Did you mean 'run'?"),
        (["job.py"], "gristmill run job.py INPUT..."),
        (["xyzzy"], "There are: run, submit, "),
        (["run", "job.py", "x", "--reducer", "3"], "--reducers"),
        (["run", "job.py"], "INPUT"),
        (["run", "job.py", "x", "--memory", "lots"], "such as 64MiB"),
        (["run", "job.py", "x", "--task-timeout", "soon"], "such as 10s"),
        (["run", "job.py", "x", "--set", "novalue"], "'novalue' is not KEY=VALUE"),
        (["run", "job.py", "x", "--executors", "0"], "--executors"),
        (["run", "job.py", "x", "--on", "moon"], "inline, local"),
        (["run", "job.py", "x", "--json"], "--json needs -o"),
        (["run", "job.py", "x", "--overwrite"], "--overwrite needs -o"),
        (["run", "job.py", "x", "--output-format", "csv"], "--output-format needs -o"),
        (["run", "nowhere.py", "x"], "nowhere.py"),
    ],
)
def test_wrong_use_is_explained(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutputExists("out exists."), 2),
        (JobFailed("It broke."), 1),
        (JobCancelled("Stopped."), 130),
        (KeyboardInterrupt(), 130),
        (click.UsageError("no"), 2),
        (PermissionError(13, "Permission denied", "/root/x"), 1),
    ],
)
def test_every_failure_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRISTMILL_DEBUG", raising=False)

    def fail() -> None:
        raise error

    assert run_guarded(fail) == code
    assert capsys.readouterr().err.strip()


def test_debugging_shows_the_engines_own_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_DEBUG", "1")

    def fail() -> None:
        raise JobFailed("It broke.")

    with pytest.raises(JobFailed):
        run_guarded(fail)


def test_starting_up_loads_nothing_heavy() -> None:
    code = "import sys, gristmill.cli.main, gristmill.cli.run, gristmill.cli.demo; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"pyarrow", "rich", "psutil", "cloudpickle", "grpc", "duckdb", "numpy"}
    assert heavy.isdisjoint(loaded.stdout.split())


def test_generate_writes_the_file_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "access.log"
    target.write_text("old")
    assert main(["generate", "access-log", "--lines", "2500", "-o", str(target), "--seed", "1"]) == 0
    assert len(target.read_text().splitlines()) == 2500
    assert list(tmp_path.iterdir()) == [target]
    assert "2,500 lines" in capsys.readouterr().err


def test_generate_prints_and_takes_a_closed_pipe_quietly() -> None:
    command = [sys.executable, "-m", "gristmill.cli.main", "generate", "access-log", "--lines", "200000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().count(b'"') == 6
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0
