"""Attempts on workers with data of their own: blocks from elsewhere, disks that fail, blocks on shared storage."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from gristmill.config import MIB
from gristmill.errors import FailureReport, UsageError
from gristmill.plan.functions import JobCode, StepFunctions
from gristmill.plan.stages import Branch, MapOp, OutputSink, ReduceOp, ShuffleSink, ShuffleSource, SplitSource, Stage
from gristmill.runtime.contracts import JobSpec, Progress, TaskResult, TaskSpec
from gristmill.runtime.executor.attempts import prepare_folder, run_attempt
from gristmill.runtime.executor.disks import mark_shared
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle import store
from gristmill.shuffle.contracts import BlockInfo, BlockSource
from gristmill.shuffle.serve import BlockServer
from gristmill.shuffle.tickets import ticket_of
from gristmill.storage.contracts import Split

PARTITIONS = 2
MAP = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), ShuffleSink(0, PARTITIONS, False), "map")
REDUCE = Stage(1, (Branch((ShuffleSource(0, 0, False),), (ReduceOp(0),)),), OutputSink("text", "r"), "reduce")


def words(_key: Any, line: str) -> Iterator[tuple[str, int]]:
    for word in line.split():
        yield word, 1


def count(word: str, ones: Iterator[int]) -> Iterator[tuple[str, int]]:
    yield word, sum(ones)


class Shop:
    """Workers of two machines, in this process, and one job."""

    def __init__(self, root: Path, shuffle_dir: str = "") -> None:
        self.root = root
        self.roots = {name: root / name for name in ("w1", "w2", "w3")}
        (root / "staging" / "attempts").mkdir(parents=True)
        code = cloudpickle.dumps(JobCode((StepFunctions(mapper=words, reducer=count),)))
        folder = str(root / "coordinator")
        self.job = JobSpec(
            "j", code, (), str(root / "staging"), folder, 64 * MIB, 0, MIB, None, ticket="t", shuffle_dir=shuffle_dir
        )
        for name in self.roots:
            prepare_folder(self.job, self.folder(name))
        self.servers = {name: BlockServer([path]) for name, path in self.roots.items()}
        for server in self.servers.values():
            server.allow("j", "t")
        # w1 and w2 see the same files, w3 does not.
        machine = {"w1": "m1", "w2": "m1", "w3": "m3"}
        self.sources = tuple(
            BlockSource(name, f"127.0.0.1:{server.port}", machine[name]) for name, server in self.servers.items()
        )
        self.lines: list[str] = []

    def folder(self, worker: str) -> str:
        return str(self.roots[worker] / "jobs" / "j")

    def map(self, worker: str, index: int, text: str) -> TaskResult | FailureReport:
        self.lines.append(text)
        path = self.root / f"in{index}"
        path.write_text(text)
        split = Split(str(path), 0, len(text), len(text), "text")
        spec = TaskSpec(AttemptId("j", 0, index, 1), MAP, splits=(split,), folder=self.folder(worker))
        return run_attempt(self.job, spec, Progress())

    def blocks(self) -> list[BlockInfo]:
        """One task for each worker, and one without rows."""
        made = []
        for index, worker in enumerate(self.roots):
            result = self.map(worker, index, f"all {worker} words here {'more ' * index}\n" * 50)
            assert isinstance(result, TaskResult) and result.block is not None, result
            made.append(result.block if self.job.shuffle_dir else replace(result.block, worker=worker))
        empty = self.map("w1", 9, "\n")
        assert isinstance(empty, TaskResult) and empty.block == BlockInfo("", ())
        return [*made, empty.block]

    def reduce(self, blocks: list[BlockInfo], machine: str, partition: int) -> TaskResult | FailureReport:
        cut = tuple(replace(block, segments=(block.segment(partition),)) for block in blocks)
        spec = TaskSpec(
            AttemptId("j", 1, partition, 1), REDUCE, blocks=cut, folder=self.folder("w3"), machine=machine,
            sources=() if self.job.shuffle_dir else self.sources, ticket=ticket_of("t", "j", "j-reader", time.time()),
        )  # fmt: skip
        return run_attempt(self.job, spec, Progress())

    def reduce_all(self, blocks: list[BlockInfo], machine: str) -> dict[str, int]:
        found = {}
        for partition in range(PARTITIONS):
            result = self.reduce(blocks, machine, partition)
            assert isinstance(result, TaskResult), result
            text = (self.root / "staging" / result.parts[0].staged).read_text()
            found.update({word: int(n) for word, n in (line.split("\t") for line in text.splitlines())})
        return found

    def expected(self) -> dict[str, int]:
        return Counter(word for text in self.lines for word in text.split())

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(tmp_path)) as made:
        yield made


@pytest.mark.parametrize("machine", ["m1", "m3", "another", ""])
def test_a_reduce_task_gets_the_same_wherever_it_runs(machine: str, shop: Shop) -> None:
    blocks = shop.blocks()
    assert shop.reduce_all(blocks, machine) == shop.expected()
    assert list(Path(shop.folder("w3"), "scratch").iterdir()) == [], "what was fetched is gone after"


def test_all_bad_blocks_are_named_the_near_and_the_far(shop: Shop) -> None:
    blocks = shop.blocks()
    partition = max(range(PARTITIONS), key=lambda p: min(block.segment(p).length for block in blocks[:3]))
    for block in (blocks[0], blocks[2]):
        os.truncate(block.path, 3)
    report = shop.reduce(blocks, "m1", partition)
    assert isinstance(report, FailureReport) and report.error == "BlockCorrupt"
    assert set(str(report.details["blocks"]).split("\n")) == {blocks[0].path, blocks[2].path}


def test_a_wrong_ticket_gets_nothing(shop: Shop) -> None:
    blocks = shop.blocks()
    shop.servers["w1"].allow("j", "another")
    report = shop.reduce(blocks, "m3", 0)
    assert isinstance(report, FailureReport) and report.error == "BlockUnreachable"
    assert "does not open" in report.message


def test_a_task_without_rows_makes_no_file(shop: Shop) -> None:
    result = shop.map("w1", 0, "\n")
    assert isinstance(result, TaskResult) and result.block == BlockInfo("", ())
    assert list(Path(shop.folder("w1"), "blocks").iterdir()) == []


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_reduce_task_of_nothing(partition: int, shop: Shop) -> None:
    result = shop.reduce([BlockInfo("", ()), BlockInfo("", (), "w1")], "m3", partition)
    assert isinstance(result, TaskResult) and result.records_out == 0


# Disks that fail.


def test_a_data_directory_that_is_gone_is_not_the_jobs_fault(shop: Shop) -> None:
    Path(shop.folder("w1"), "blocks").rmdir()
    report = shop.map("w1", 0, "some words\n")
    assert isinstance(report, FailureReport) and report.error == "DataDirFailed"
    assert str(report.details["path"]).startswith(shop.folder("w1"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_data_directory_of_a_worker_is_tried_elsewhere(shop: Shop) -> None:
    name = shop.job.file_name(AttemptId("j", 0, 0, 1))
    Path(shop.folder("w1"), "blocks", f"{name}.block.tmp").symlink_to("/dev/full")
    report = shop.map("w1", 0, "some words\n")
    assert isinstance(report, FailureReport) and report.error == "DataDirFailed"
    assert report.details["full"] == 1
    assert os.strerror(errno.ENOSPC) in report.message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_full_disk_of_a_local_run_ends_the_job(shop: Shop) -> None:
    prepare_folder(shop.job)
    (shop.root / "in").write_text("some words\n")
    attempt = AttemptId("j", 0, 0, 1)
    Path(shop.job.folder, "blocks", f"{attempt}.block.tmp").symlink_to("/dev/full")
    split = Split(str(shop.root / "in"), 0, 11, 11, "text")
    report = run_attempt(shop.job, TaskSpec(attempt, MAP, splits=(split,)), Progress())
    assert isinstance(report, FailureReport) and report.error == "DiskFull"
    assert str(attempt) in report.message


def test_damage_to_an_attempts_own_files_is_nobody_elses_fault(shop: Shop) -> None:
    """Blocks were fetched, or merged because they are many, and what was written is not what is read."""
    scratch = Path(shop.folder("w3"), "scratch")

    def damage() -> Iterator[tuple[str, int]]:
        for path in scratch.rglob("[fm]e*-*"):
            os.truncate(path, 10)
        yield from ()

    steps = StepFunctions(mapper=words, reducer=count, reducer_init=damage)
    shop.job = replace(shop.job, code=cloudpickle.dumps(JobCode((steps,))))
    few = shop.blocks()
    for blocks in (few, few * 30):
        report = shop.reduce(blocks, "m3", 0)
        assert isinstance(report, FailureReport) and report.error == "DataDirFailed", report
        assert str(report.details["path"]).startswith(str(scratch))


def test_users_errors_of_the_disk_stay_theirs(shop: Shop) -> None:
    def mapper(_key: Any, line: str) -> Iterator[tuple[str, int]]:
        raise OSError(errno.EIO, "the user's own", "/some/file")
        yield line, 1

    shop.job = replace(shop.job, code=cloudpickle.dumps(JobCode((StepFunctions(mapper=mapper, reducer=count),))))
    report = shop.map("w1", 0, "some words\n")
    assert isinstance(report, FailureReport) and report.error == "UserCodeError"


# Shared storage.


@pytest.mark.parametrize("kind", ["path", "file", "uri"])
def test_blocks_on_shared_storage(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    shuffle_dir = {"path": str(folder), "file": folder.as_uri(), "uri": f"mock:///{tmp_path.name}/shared"}[kind]
    with closing(Shop(tmp_path, shuffle_dir)) as shop:
        blocks = shop.blocks()
        assert [list(Path(shop.folder(worker), "blocks").iterdir()) for worker in shop.roots] == [[], [], []]
        assert {store.is_uri(block.path) for block in blocks if block.path} == {kind == "uri"}
        assert shop.reduce_all(blocks, "") == shop.expected()
        gone = next(block for block in blocks if block.segment(0).length)
        store.delete(gone.path)
        store.delete(gone.path)
        report = shop.reduce(blocks, "", 0)
        assert isinstance(report, FailureReport) and report.error == "BlockMissing"
        assert str(report.details["blocks"]) == gone.path
        store.delete_job(shuffle_dir, "j")
        store.delete_job(shuffle_dir, "j")
        report = shop.reduce(blocks, "", 0)
        assert isinstance(report, FailureReport)
        assert len(str(report.details["blocks"]).split("\n")) == sum(block.segment(0).length > 0 for block in blocks)


@pytest.mark.parametrize("kind", ["path", "uri"])
def test_the_mark_of_a_jobs_folder_on_shared_storage(kind: str, tmp_path: Path) -> None:
    shuffle_dir = str(tmp_path / "shared") if kind == "path" else f"mock:///{tmp_path.name}/marked"
    assert not store.is_marked(shuffle_dir, "j")
    mark_shared(shuffle_dir, "j")
    assert store.is_marked(shuffle_dir, "j")
    assert not store.is_marked(shuffle_dir, "k")
    store.delete_job(shuffle_dir, "j")
    assert not store.is_marked(shuffle_dir, "j")


def test_shared_storage_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for shuffle_dir in (str(tmp_path / "file"), "nothing://of/this/kind"):
        with pytest.raises(UsageError, match="cannot be written"):
            mark_shared(shuffle_dir, "j")
        assert not store.is_marked(shuffle_dir, "j")


def test_uris_are_joined_before_their_query() -> None:
    folder = store.job_folder("s3://bucket/shuffle/?region=here", "j")
    assert folder == "s3://bucket/shuffle/j?region=here"
    assert store.job_folder("file:///data/my%20blocks", "j") == "/data/my blocks/j"
    assert store.job_folder("/data", "j") == "/data/j"
