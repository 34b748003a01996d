"""The programs and commands of the documentation, run in order as a reader would.

What stands behind the language of a block is not shown to readers: ``python NAME`` is saved as NAME, ``python + NAME``
is appended to it, ``python`` alone is run, and ``python typed`` is typed at a prompt, the same for the whole page;
``sh`` is run. ``sh fails`` and ``python typed fails`` must fail. The lines of ``sh machines`` are typed on as many
machines: all but the last are left running until the page is done. ``sh listed`` and ``python listed`` are not run, for
they need another machine or wait for a person. A block of ``text`` is what the block before it prints: ``…`` stands for
anything within a line, and a line of that alone for any lines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from chaos_cluster_kit import free_port

from docs_prompt import Prompt

ROOT = Path(__file__).parents[1]
_MR_COMMANDS = ("coordinator", "worker")
SOME_JOB = "20261120-132501-a3f9"
ORDERS = "country,price\nfr,2.50\nde,1\nfr,1.50\nde,free\n"

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="the commands are for a POSIX shell"),
    pytest.mark.timeout(300),  # for some fifty commands
]


def blocks(path: Path) -> Iterator[tuple[str, str]]:
    """Language line and text of each block of code."""
    yield from re.findall(
        r"^```((?:python|sh|text)\b[^\n]*)\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def run_page(path: Path, here: Path) -> list[str]:
    """Do what a page says in a folder; what each command printed."""
    reader = Reader(here)
    with ExitStack() as machines:
        for language, text in blocks(path):
            reader.do(language.split(), text, machines)
    return reader.printed


class Reader:
    """Somebody who types what a page says.

    Args:
        here: the current folder.
    """

    def __init__(self, here: Path) -> None:
        self.printed: list[str] = []
        self._here = here
        self._prompt: Prompt | None = None
        self._port = free_port()
        self._machines = 0
        (here / ".data").mkdir(mode=0o700)
        for name in ("token", ".data/token"):
            (here / name).write_text("the-token-of-this-test\n")
        tools = here / ".tools"
        tools.mkdir()
        mr = {f"mr-{name}": f"-c 'import gristmill.cli.mr as mr; exit(mr.{name}_main())'" for name in _MR_COMMANDS}
        for name, command in {"gristmill": "-m gristmill.cli.main", "python": "", **mr}.items():
            (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
            (tools / name).chmod(0o755)
        self._env = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "GRISTMILL_DATA_DIR": str(here / ".data"),
            "TERM": "dumb",
        }

    def do(self, language: list[str], text: str, machines: ExitStack) -> None:
        """Save or run one block, or compare it with what the one before it has printed."""
        kind, *rest = language
        if kind == "text":
            found = self.printed[-1]
            assert re.fullmatch(_pattern(text), found), f"The page says:\n{text}\nIt is:\n{found}"
            return
        text = self._meant(text)
        if rest[:1] == ["typed"]:
            self._prompt = self._prompt or machines.enter_context(Prompt(self._here, self._env))
            said, failed = self._prompt.enter(text)
            assert failed == (rest[1:] == ["fails"]), f"{text}\n{said}"
            self.printed.append(said)
            return
        if kind == "python" and rest:
            with (self._here / rest[-1]).open("a" if rest[0] == "+" else "w") as file:
                file.write("\n" + text if rest[0] == "+" else text)
            return
        if text.startswith("make ") or rest == ["listed"]:
            return
        if rest == ["machines"]:
            *staying, text = text.strip().splitlines()
            for line in staying:
                machines.enter_context(self._left_running(line))
        (self._here / "block.py").write_text(text)
        command = ["bash", "-eu", "block.py"] if kind == "sh" else [sys.executable, "block.py"]
        done = subprocess.run(
            command, cwd=self._here, env=self._env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == (rest == ["fails"]), f"{text}\n{done.stdout}\n{done.stderr}"
        self.printed.append(done.stdout + done.stderr)

    def _meant(self, text: str) -> str:
        """What stands for something of the reader's own, replaced by it."""
        text = text.replace("mill:7077", f"127.0.0.1:{self._port}").replace("/shared/", f"{self._here}/")
        text = text.replace("serve --host 0.0.0.0", f"serve --port {self._port}")
        if SOME_JOB in text:
            text = text.replace(SOME_JOB, max(folder.name for folder in (self._here / ".data" / "jobs").iterdir()))
        return text

    @contextmanager
    def _left_running(self, line: str) -> Iterator[None]:
        """A command that goes on, on a machine of its own, from when it has said something."""
        # The first machine is the one that all other commands are typed on.
        data_dir = self._here / (f".data{self._machines}" if self._machines else ".data")
        self._machines += 1
        said = self._here / f"{data_dir.name}.said"
        with said.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"], cwd=self._here, env={**self._env, "GRISTMILL_DATA_DIR": str(data_dir)},
                stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while not said.stat().st_size:
                assert process.poll() is None and time.monotonic() < deadline, line
                time.sleep(0.05)
            yield
            process.terminate()
            assert process.wait(60) == 0, said.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(60)


def _pattern(text: str) -> str:
    """A regular expression for what a block of text says."""
    lines = ["(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + " *\n" for line in text.splitlines()]
    return "".join(lines)


def save_wordcount(here: Path) -> None:
    [program] = [text for language, text in blocks(ROOT / "README.md") if language == "python wordcount.py"]
    (here / "wordcount.py").write_text(program)


def test_readme(tmp_path: Path) -> None:
    (tmp_path / "FILES").write_text("b a\nb\n")
    printed = run_page(ROOT / "README.md", tmp_path)
    assert (tmp_path / "OUT" / "part-r-00000").read_text() == "a\t1\nb\t2\n"
    assert "a\t1\nb\t2\n" in printed[0]
    assert printed[1] == "a 1\nb 2\n"


def test_tutorial(tmp_path: Path) -> None:
    printed = run_page(ROOT / "docs" / "tutorial.md", tmp_path)
    assert any("path = line.split()[6]" in text and "'oops'" in text for text in printed)
    assert any("log.odd lines  1" in text for text in printed)


def run_how_to(here: Path, *, clusters: bool) -> list[str]:
    """Do what one half of the page says, in a folder as its first lines describe it."""
    save_wordcount(here)
    (here / "books").mkdir()
    (here / "books" / "one.txt").write_text("the mill turns\n\nthe stone turns\n")
    (here / "books" / "two.txt").write_text("the grain is ground between the stones\n")
    (here / "orders.csv").write_text(ORDERS.replace("free", "3"))
    (here / "good.csv").write_text(ORDERS.replace("free", "3"))
    jobs, heading, rest = (ROOT / "docs" / "how-to.md").read_text("utf-8").partition("## start a cluster\n")
    assert heading
    # The order that cannot be read is there from the section on bad records on.
    jobs = jobs.replace("## live with", f"```sh\nprintf '{ORDERS}' > orders.csv\n```\n\n## live with")
    page = here / "how-to.md"
    page.write_text(rest if clusters else jobs)
    return run_page(page, here)


def test_how_to(tmp_path: Path) -> None:
    printed = run_how_to(tmp_path, clusters=False)
    assert "de\t4.0\nfr\t4.0\n" in printed[0]
    assert (tmp_path / "sales.jsonl" / "part-r-00000.jsonl").read_text().startswith('{"key": "de", "value": 4.0}')
    assert "longest\tthe grain is ground between the stones\n" in "".join(printed)
    assert "IndexError yield line[99], 1 books/one.txt 0\n" in printed
    assert "free" in next((tmp_path / "good" / "_bad_records").iterdir()).read_text()
    assert "9\n" in printed
    assert any("stones 1\nthe 4\nturns 2\n" in text for text in printed)


def test_how_to_clusters(tmp_path: Path) -> None:
    run_how_to(tmp_path, clusters=True)
    for output in ("counted", "overnight", "team", "checked", "gross", "kept", "big"):
        assert (tmp_path / output / "_SUCCESS").exists(), output


def test_how_to_datasets(tmp_path: Path) -> None:
    run_page(ROOT / "docs" / "how-to-datasets.md", tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_rest(tmp_path: Path) -> None:
    run_page(ROOT / "docs" / "rest.md", tmp_path)
