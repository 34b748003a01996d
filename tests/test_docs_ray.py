"""docs/ray.md: what it says to type exists, and what one machine can do of it is done, on a real Ray."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import yaml

from gristmill.cli.main import cli
from gristmill.errors import RayFull, RayUnreachable, VersionMismatch
from gristmill.fleets.ray.fleet import LOST_SECONDS
from gristmill.fleets.ray.placing import _MEMORY_SHARE
from gristmill.fleets.ray.settings import RaySettings
from test_docs_run import blocks, run_page, save_wordcount

ROOT = Path(__file__).parents[1]
PATH = ROOT / "docs" / "ray.md"
PAGE = PATH.read_text("utf-8")
_RAY_OPTIONS = {"--working-dir", "--object-spilling-directory", "--address"}  # of commands that are not ours
_KUBECTL_OPTIONS = {"--from-env-file", "--from-file"}


def commands(text: str) -> Iterator[list[str]]:
    """Our commands in lines of a shell, also those that stand behind another one's ``--``."""
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        begun = [
            number for number, word in enumerate(words) if word == "gristmill" and words[:number][-1:] in ([], ["--"])
        ]
        for number in begun:
            yield words[number + 1 :]


def all_commands() -> list[list[str]]:
    """Those of the page's blocks, of its prose, and of the job's manifest."""
    job = next(yaml.safe_load_all((ROOT / "docs" / "kubernetes" / "job.yaml").read_text("utf-8")))
    texts = [text for language, text in blocks(PATH) if language.startswith("sh")]
    texts += [text for text in re.findall(r"`([^`\n]+)`", PAGE) if re.match(r"(ray job submit .*)?gristmill ", text)]
    return [command for text in [*texts, job["spec"]["entrypoint"]] for command in commands(text)]


def test_every_command_is_one_of_ours() -> None:
    found = all_commands()
    assert len(found) >= 6
    for name, *rest in found:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        if rest and "…" not in rest:
            command.make_context(name, rest)  # raises if an option or its value is not known


def test_every_option_is_one_of_ours() -> None:
    run = cli.get_command(click.Context(cli), "run")
    assert run is not None
    ours = {name for param in run.params for name in param.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named - _RAY_OPTIONS - _KUBECTL_OPTIONS <= ours
    table = re.findall(r"^\| `(--[a-z-]+) ", PAGE, re.MULTILINE)
    assert table == ["--executors", "--memory", "--task-cpus", "--task-memory"]


def test_figures_and_errors_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split())
    assert f"without it {_MEMORY_SHARE:.0%} of what Ray counts".replace("%", " %") in text
    assert RaySettings().place_seconds == 600 and "If for ten minutes not even one has a place" in text
    assert LOST_SECONDS == 60 and "a minute without a word" in text
    assert RayFull.exit_code == RayUnreachable.exit_code == 75 and "(`RayFull`, exit code 75)" in text
    assert all(f"`{error.__name__}`" in text for error in (RayUnreachable, VersionMismatch))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.soak
@pytest.mark.timeout(180)
def test_what_one_machine_can_do_is_done(tmp_path: Path) -> None:
    save_wordcount(tmp_path)
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "one.txt").write_text("the mill turns\nthe stone turns\n")
    run_page(PATH, tmp_path)
    assert (tmp_path / "counted" / "part-r-00000").read_text() == "mill\t1\nstone\t1\nthe\t2\nturns\t2\n"
