"""One session's work at a worker: attempts that stay unanswered, and what is left to do when it has ended."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent_kit import wait_until

from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.contracts import Progress, TaskSpec
from gristmill.runtime.files.blobs import BlobStore, digest_of
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_message, launch_order, stage_message
from gristmill.runtime.worker import workplace as module
from gristmill.runtime.worker.datadirs import DataDirs
from gristmill.runtime.worker.front import Front
from gristmill.runtime.worker.premises import Premises
from gristmill.runtime.worker.workplace import Workplace
from gristmill.scheduling.events import AttemptId
from gristmill.storage.contracts import Split

ATTEMPT = AttemptId("j", 0, 0, 1)
STAGE = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")


class Heard:
    """Stands for a session: it hears what the workplace says."""

    def __init__(self) -> None:
        self.events: list[pb.Event] = []

    def say(self, event: pb.Event, size_bytes: int = 100) -> None:
        self.events.append(event)

    unheard_bytes = 0

    def beat(self, attempts: dict[AttemptId, Progress], usage: object = None) -> None:
        pass


class NoBlocks:
    """Serves nothing."""

    on_trouble: Callable[[str], None] = print

    def allow(self, job: str, ticket: str) -> None:
        pass

    def forget(self, job: str) -> None:
        pass


@pytest.fixture
def dirs(tmp_path: Path) -> Iterator[DataDirs]:
    dirs = DataDirs.open([tmp_path / "data"])
    yield dirs
    dirs.close()


@pytest.fixture
def workplace(dirs: DataDirs) -> Iterator[Workplace]:
    premises = Premises(1, 1 << 28, "m", dirs, NoBlocks(), Front("http://127.0.0.1:1", "token"))
    place = Workplace(premises, pb.Welcome(worker="w#1", beat_seconds=1.0, jobs=["j"]), Heard(), queue.SimpleQueue())
    yield place
    place.close(delete=False)


@pytest.mark.parametrize("word", ["cancel", "recall"])
def test_an_attempt_that_nobody_waits_for_does_not_hold_up_a_drain(workplace: Workplace, word: str) -> None:
    """Its executor is ended with it, or it ends as it likes: no answer need come, and no goodbye may wait for one."""
    workplace._agent.launch = lambda slot, spec: None  # type: ignore[method-assign]  # as one that runs for long
    launch = launch_order("w#1-1", TaskSpec(ATTEMPT, STAGE, splits=(Split("/in", 0, 1, 1, "text"),)), {})
    workplace.hear([pb.Order(add_stage=stage_message("j", STAGE)), launch])
    assert workplace.running == 1
    named = attempt_message(ATTEMPT)
    workplace.hear([pb.Order(cancel=named) if word == "cancel" else pb.Order(recall=named)])
    assert workplace.running == 0


def test_it_is_known_whether_blocks_are_still_being_deleted(
    workplace: Workplace, dirs: DataDirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who joins anew must not make files in folders that an earlier session's end is about to delete."""
    (tmp_path / "data" / "jobs" / "j").mkdir()
    go_on = threading.Event()
    remove = dirs.remove_job

    def slowly(job: str) -> None:
        assert go_on.wait(60)
        remove(job)

    monkeypatch.setattr(dirs, "remove_job", slowly)
    monkeypatch.setattr(module, "_CHORES_SECONDS", 0.01)
    workplace.close(delete=True)
    assert workplace.is_tidying
    go_on.set()
    wait_until(lambda: not workplace.is_tidying)
    assert not (tmp_path / "data" / "jobs" / "j").exists()


def test_code_comes_to_a_worker_that_has_no_room_for_it(
    workplace: Workplace, dirs: DataDirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is no matter of the job's: attempts fail there and run elsewhere. Only bundles must lie on a disk."""

    def full(store: BlobStore, name: str, chunks: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    code, bundle = b"code", b"bundle"
    monkeypatch.setattr(BlobStore, "write", full)
    monkeypatch.setattr(Front, "blob", lambda front, name: {digest_of(code): code, digest_of(bundle): bundle}[name])
    assert workplace._take_job(pb.AddJob(job="j", code=digest_of(code))) is None
    assert workplace._specs["j"].code == code
    report = workplace._take_job(pb.AddJob(job="k", code=digest_of(code), bundles=[digest_of(bundle)]))
    assert report is not None
    assert report.error == "DiskFull"
    assert report.message.endswith(f"cannot be kept in {dirs.paths[0]}: No space left on device")
