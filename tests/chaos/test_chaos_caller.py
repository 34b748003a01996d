"""The command itself is killed or interrupted at any moment: no process and no half output stays behind."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_kit import JOBS, Command, counted, counts_of, litter, read_output, run_to_end, seeds, write_text

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")

TYPICAL_SECONDS = 1.2  # of the job below, from start to end
EIGHT_DAYS = 8 * 86400.0


class Scene:
    """A job over and over, in a folder of its own."""

    def __init__(self, folder: Path, seed: int, overwrite: bool) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.place = folder / "there"
        self.place.mkdir()
        self.output = self.place / "out"
        self.overwrite = overwrite
        self.text = write_text(folder / "in", seed, 600)
        self.expected = counts_of(self.text)
        self.runs = 0
        if overwrite:
            self.output.mkdir()
            (self.output / "old").write_text("the old output")

    def arguments(self) -> list[str | Path]:
        size = sum(path.stat().st_size for path in self.text.iterdir())
        job: list[str | Path] = [f"{JOBS}:WordCount", self.text, "-o", self.output, "--data-dir", self.folder / "data"]
        fine = ["--executors", "2", "--reducers", "4", "--split-size", str(size // 12), "--set", "pause=0.03"]
        return [*job, *fine, *(["--overwrite"] if self.overwrite else [])]

    def start(self) -> Command:
        self.runs += 1
        return Command(self.folder / f"run{self.runs}.log", *self.arguments())

    @property
    def is_complete(self) -> bool:
        return (self.output / "_SUCCESS").exists()

    def assert_whole_or_before(self) -> None:
        """The output is complete and right; or as it was before."""
        if self.is_complete:
            assert counted(read_output(self.output)) == self.expected
        elif self.overwrite:
            assert [path.name for path in self.output.iterdir()] == ["old"]
        else:
            assert not os.path.lexists(self.output)

    def assert_next_run_cleans_up(self) -> None:
        if self.is_complete and not self.overwrite:
            assert litter_after_refusal(self) == []
            return
        run_to_end(self.folder / "next.log", *self.arguments())
        assert counted(read_output(self.output)) == self.expected
        assert litter(self.place) == []
        assert [path.name for path in self.place.iterdir()] == ["out"]

    def job_folders(self) -> list[Path]:
        jobs = self.folder / "data" / "jobs"
        return sorted(jobs.iterdir()) if jobs.exists() else []

    def begun(self) -> bool:
        """The job has folders: its command is past its imports."""
        return bool(self.job_folders())

    def committing(self) -> bool:
        """The output's parts are being given their names."""
        return any(self.place.glob(".out.gristmill-*/final"))


def litter_after_refusal(scene: Scene) -> list[str]:
    """What lies beside the output after one more run, which finds it there and is refused."""
    command = scene.start()
    assert command.process.wait(60) == 2, command.said()
    return litter(scene.place)


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    """Whatever a test starts is ended with it."""
    started: list[Command] = []
    yield started
    for command in started:
        command.close()


def moment_of(scene: Scene) -> tuple[float, Callable[[], bool] | None]:
    """When to strike: anywhere in the job's life, or while its output is put in place."""
    if scene.chance.random() < 0.3:
        return scene.chance.uniform(0, 0.006), scene.committing
    return scene.chance.uniform(0, TYPICAL_SECONDS), None if scene.chance.random() < 0.5 else scene.begun


@pytest.mark.parametrize("seed", seeds((0, 1, 5), soak=40))
def test_a_killed_caller_leaves_all_or_nothing(seed: int, tmp_path: Path, commands: list[Command]) -> None:
    scene = Scene(tmp_path, seed, overwrite=bool(seed % 2))
    command = scene.start()
    commands.append(command)
    killed = command.hit(signal.SIGKILL, *moment_of(scene))
    command.process.wait(60)
    command.assert_gone()
    scene.assert_whole_or_before()
    kept = scene.job_folders()
    assert len(kept) <= int(killed)
    scene.assert_next_run_cleans_up()
    assert [folder for folder in scene.job_folders() if folder in kept] == kept, "kept until it is old"


def test_the_folder_of_a_killed_job_is_pruned_when_it_is_old(tmp_path: Path, commands: list[Command]) -> None:
    scene = Scene(tmp_path, 7, overwrite=False)
    command = scene.start()
    commands.append(command)
    assert command.hit(
        signal.SIGKILL, 0.1, lambda: any((folder / "job.json").exists() for folder in scene.job_folders())
    )
    command.process.wait(60)
    command.assert_gone()
    [folder] = scene.job_folders()
    assert json.loads((folder / "job.json").read_text())["state"] == "running"
    long_ago = time.time() - EIGHT_DAYS
    os.utime(folder / "job.json", (long_ago, long_ago))
    scene.assert_next_run_cleans_up()
    assert scene.job_folders() == []


@pytest.mark.parametrize("seed", seeds((0, 3, 4), soak=40))
def test_an_interrupted_caller_leaves_nothing(seed: int, tmp_path: Path, commands: list[Command]) -> None:
    scene = Scene(tmp_path, seed, overwrite=seed % 3 == 0)
    number = signal.SIGINT if seed % 2 else signal.SIGTERM
    command = scene.start()
    commands.append(command)
    delay, _ = moment_of(scene)
    # Before it began, Python's own handlers answer, and there is nothing to clean up.
    sign = (scene.begun, scene.committing, None)[seed // 2 % 3]
    hit = command.hit(number, delay, sign)
    began = time.monotonic()
    code = command.process.wait(20)
    command.assert_gone(max(0.0, 5.0 - (time.monotonic() - began)))
    scene.assert_whole_or_before()
    assert litter(scene.place) == []
    if not hit:
        assert code == 0, command.said()
    if scene.is_complete:
        assert code in (0, 130, -number), command.said()
        assert "no output was written" not in command.said()
    elif sign is not None or scene.begun():
        assert code == 130, command.said()
        assert str(scene.job_folders()[0]) in command.said()
