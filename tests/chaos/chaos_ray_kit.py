"""Jobs on a Ray cluster of which parts are killed, and what there is to see of them."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chaos_ray_jobs
import psutil
from chaos_kit import Command, litter, read_output
from chaos_ray_jobs import SPLIT_BYTES, Dealt, write_tasks
from ray_kit import RayCluster, RayNode

from gristmill.runtime.journal.facts import TaskDone
from gristmill.runtime.journal.journal import JOURNAL, Journal

JOBS = Path(chaos_ray_jobs.__file__)
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Note:
    """An attempt has begun: see ``chaos_ray_jobs.begin``."""

    kind: str
    what: str
    pid: int
    at: int


class Grounds:
    """One job on a cluster, run by a process of its own.

    Args:
        cluster: where it runs.
        folder: for all files of the test.
        tasks: how many map tasks.
        partitions: how many reduce tasks.
        job: which of ``chaos_ray_jobs``.
        numbers: how many rows there are.
        row_bytes: of each.
        pause: of each task.
    """

    def __init__(
        self,
        cluster: RayCluster,
        folder: Path,
        *,
        tasks: int = 6,
        partitions: int = 3,
        job: str = "Dealt",
        numbers: int = 600,
        row_bytes: int = 10,
        pause: float = 0.0,
    ) -> None:
        self.cluster, self.folder = cluster, folder
        self.job, self.partitions = job, partitions
        self.output = folder / "out"
        self._notes = folder / "notes"
        self._notes.mkdir()
        self._input = write_tasks(folder / "in", tasks, numbers)
        self._sets: dict[str, Any] = {"notes": self._notes, "partitions": partitions, "bytes": row_bytes}
        self._pause = pause
        self.driver: Command | None = None
        self.folders_before = self.member_folders()  # other jobs may have left some

    # The job.

    def begin(self, *options: str) -> Command:
        """Start it."""
        sets = {**self._sets, "pause": self._pause}
        words = [word for name, value in sets.items() for word in ("--set", f"{name}={value}")]
        sizes = ["--split-size", str(SPLIT_BYTES), "--reducers", str(self.partitions)]
        where = ["-o", self.output, "--on", "ray", "--data-dir", self.folder / "driver", "--json", "--no-speculation"]
        self.driver = Command(
            self.folder / "driver.log",
            *(f"{JOBS}:{self.job}", self._input, *where, *sizes, *words, *options),
            **{"RAY_ADDRESS": "", **self.cluster.variables},
        )
        return self.driver

    def finish(self, seconds: float = 90.0) -> dict[str, Any]:
        """Let it go on, and wait for its end, which must be a good one. Returns its summary."""
        assert self.driver is not None
        self.release()
        code = self.driver.process.wait(seconds)
        assert code == 0, self.said()
        lines = [line for line in self.driver.said().splitlines() if line.startswith('{"job_id"')]
        summary: dict[str, Any] = json.loads(lines[-1])
        return summary

    def check(self) -> None:
        """The output is that of a run that nobody disturbs, and nothing lies about."""
        params = {name: str(value) for name, value in self._sets.items()}
        before = set(self._notes.iterdir())
        calm: Any = getattr(chaos_ray_jobs, self.job)
        calm.run(
            self._input,
            self.folder / "calm",
            on="inline",
            reducers=self.partitions,
            split_size=SPLIT_BYTES,
            params=params,
            data_dir=self.folder / "calm-data",
        )
        for made in set(self._notes.iterdir()) - before:
            made.unlink()
        assert read_output(self.output) == read_output(self.folder / "calm")
        assert litter(self.folder) == []

    def hold(self, *names: str) -> None:
        """Let attempts wait that begin such tasks: ``map``, ``open``, ``reduce.2``, …"""
        for name in names:
            (self._notes / f"hold.{name}").touch()

    def release(self, *names: str) -> None:
        """Let them go on; without names, all."""
        for hold in [self._notes / f"hold.{name}" for name in names] or list(self._notes.glob("hold.*")):
            hold.unlink()

    # What there is to see.

    def notes(self, kind: str = "*") -> list[Note]:
        """Attempts that have begun, in their order."""
        found = [path.name.split(".") for path in self._notes.glob(f"{kind}.*.*.*") if not path.name.startswith("hold")]
        return sorted((Note(k, what, int(pid), int(at)) for k, what, pid, at in found), key=lambda note: note.at)

    def runs(self, kind: str) -> Counter[str]:
        """How often each task has begun."""
        return Counter(note.what for note in self.notes(kind))

    def done(self, stage: int) -> set[int]:
        """The tasks of a stage that are done, as the job's journal says."""
        found: set[int] = set()
        for path in (self.folder / "driver/jobs").glob(f"*/{JOURNAL}"):
            facts = Journal(path).facts()
            found.update(
                fact.attempt.index for fact in facts if isinstance(fact, TaskDone) and fact.attempt.stage == stage
            )
        return found

    def member_folders(self) -> set[Path]:
        """Where members keep what they make, on all nodes."""
        return set(self.cluster.folder.glob("nodes/ray/gristmill-*"))

    def assert_gone(self, seconds: float = 15.0) -> float:
        """Soon nobody of the job lives: no member, and no executor. Returns how long it took."""
        began = time.monotonic()
        while left := [one for one in self.cluster.processes() if _is_ours(one)]:
            assert time.monotonic() < began + seconds, f"{left}\n{self.said()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def said(self) -> str:
        """What the driver and the cluster have said."""
        driver = "" if self.driver is None else self.driver.said()
        return f"{driver}\n--- the cluster\n{self.cluster.said()}\n--- notes\n{self.notes()}"

    def wait_until(self, condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> float:
        """Wait for something that nobody tells. Returns how long it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + seconds, self.said()
            assert self.driver is None or self.driver.process.poll() is None, self.said()
            time.sleep(0.02)
        return time.monotonic() - began

    def wait_for(self, kind: str, count: int) -> None:
        """Wait until so many attempts have begun."""
        self.wait_until(lambda: len(self.notes(kind)) >= count)

    def on(self, pids: set[int], kind: str) -> set[str]:
        """Tasks that have begun in one of these processes, and nowhere after that."""
        last = {note.what: note.pid for note in self.notes(kind)}
        return {what for what, pid in last.items() if pid in pids}

    def living(self) -> bool:
        """Whether there is a member with an executor on every node that lives."""
        return all(any(executors(member) for member in members(node)) for node in self.cluster.nodes)

    def strike(self, kind: str, chance: random.Random) -> None:
        """Kill an executor, a member or a node, but not the head; in place of a node another one comes."""
        node = chance.choice(self.cluster.nodes[1:])
        if kind == "node":
            node.kill()
            self.cluster.remove_node(node, graceful=False)
            self.cluster.add_node()
            return
        for member in members(node):
            for victim in [member] if kind == "member" else executors(member):
                with contextlib.suppress(psutil.NoSuchProcess):
                    victim.kill()

    def close(self) -> None:
        """End what a failed test would leave."""
        if self.driver is not None:
            self.driver.close()


@contextmanager
def grounds(cluster: RayCluster, folder: Path, **options: Any) -> Iterator[Grounds]:
    """A job that is not begun yet; its driver is gone afterwards, and so are members."""
    made = Grounds(cluster, folder, **options)
    try:
        yield made
    finally:
        made.close()


def pids_of(node: RayNode) -> set[int]:
    """All its processes, executors included."""
    return {process.pid for process in node.family()}


def members(node: RayNode) -> list[psutil.Process]:
    """The processes of the actors on a node."""
    return [process for process in node.family() if _name(process).startswith("ray::GristmillMember")]


def _is_ours(process: psutil.Process) -> bool:
    return "GristmillMember" in _name(process) or "gristmill.runtime" in _name(process)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def executors(member: psutil.Process) -> list[psutil.Process]:
    """The executors of an actor."""
    found = []
    for server in member.children():
        if "gristmill.runtime.agent.forkserver" in _name(server):
            found += server.children()
    return found


__all__ = ["Dealt", "Grounds", "Note", "executors", "grounds", "members", "pids_of"]
