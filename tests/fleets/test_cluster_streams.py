"""A fleet and the agents' ends of its streams, in one process: joining, fencing, what is heard and what is not."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gristmill.config import PYTHON_VERSION, VERSION
from gristmill.errors import FailureReport, UsageError
from gristmill.fleets.cluster import ClusterFleet
from gristmill.plan.stages import Branch, MapOp, OutputSink, SplitSource, Stage
from gristmill.runtime.contracts import (
    AttemptDone,
    AttemptFailed,
    Beat,
    JobAdmitted,
    JobRejected,
    JobSpec,
    Progress,
    SlotDown,
    SlotUp,
    TaskResult,
    TaskSpec,
    WorkerDown,
    WorkerUp,
)
from gristmill.runtime.protocol import agents as pb
from gristmill.runtime.protocol.convert import attempt_message, json_bytes
from gristmill.runtime.transport.attendance import Attendance, Crashed, Refused, StreamOver
from gristmill.scheduling.events import AttemptId
from gristmill.shuffle.contracts import BlockInfo, SegmentInfo
from gristmill.storage.contracts import PartFile, Split

PATIENCE = 60.0
STAGE = Stage(0, (Branch((SplitSource(),), (MapOp(0),)),), OutputSink("text", "m"), "map")
TASK = AttemptId("j", 0, 0, 1)


@dataclass
class Heard:
    """Notes what the coordinator orders."""

    welcomes: list[pb.Welcome] = field(default_factory=list)
    orders: list[pb.Order] = field(default_factory=list)

    def welcomed(self, welcome: pb.Welcome) -> None:
        self.welcomes.append(welcome)

    def hear(self, orders: Sequence[pb.Order]) -> None:
        self.orders.extend(orders)

    def kinds(self) -> list[str | None]:
        return [order.WhichOneof("order") for order in self.orders]


class Agent:
    """An agent's end of a session, played by the test."""

    def __init__(self, fleet: ClusterFleet, **join: Any) -> None:
        self.fleet = fleet
        self.heard = Heard()
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.attendance = Attendance(self.heard, self.news)
        facts = {"name": "w", "machine": "m", "flight": "host:1", "cpus": 2.0, "memory_bytes": 1 << 30}
        self.facts = {**facts, "python": PYTHON_VERSION, "version": VERSION, **join}

    def connect(self, token: str = "token") -> Agent:
        self.attendance.connect(self.fleet.address, token, pb.Join(**self.facts))
        return self

    def joined(self) -> Agent:
        self.connect()
        wait_until(lambda: self.attendance.is_live)
        return self

    def say(self, **event: Any) -> None:
        self.attendance.say(pb.Event(**event))

    def done(self, attempt: AttemptId = TASK, result: TaskResult | None = None) -> None:
        data = json_bytes(result or TaskResult())
        self.say(done=pb.Done(attempt=attempt_message(attempt), result=data))

    def next_news(self, kind: type[Any]) -> Any:
        item = self.news.get(timeout=PATIENCE)
        assert isinstance(item, kind), item
        return item


class Mill:
    """A fleet, and what it told the coordinator."""

    def __init__(self, fleet: ClusterFleet) -> None:
        self.fleet = fleet
        self.said: list[Any] = []
        self.agents: list[Agent] = []
        fleet.start(self.said.append)

    def agent(self, **join: Any) -> Agent:
        self.agents.append(Agent(self.fleet, **join))
        return self.agents[-1]

    def worker(self, **join: Any) -> Agent:
        """An agent that has joined and offers one slot."""
        count = len(self.heard(SlotUp))
        agent = self.agent(**join).joined()
        agent.say(slot_up=pb.SlotUp(slot=f"{agent.heard.welcomes[0].worker}-1", depth=3))
        wait_until(lambda: len(self.heard(SlotUp)) > count)
        return agent

    def heard(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.said if isinstance(event, kind)]

    def wait_for(self, kind: type[Any]) -> Any:
        wait_until(lambda: self.heard(kind))
        return self.heard(kind)[-1]


@pytest.fixture
def mill() -> Iterator[Mill]:
    made = Mill(ClusterFleet("token", beat_seconds=0.1, lost_seconds=5.0))
    yield made
    for agent in made.agents:
        agent.attendance.disconnect()
    made.fleet.close()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def job(name: str = "j") -> JobSpec:
    return JobSpec(name, b"code", (), "", "", 1, 0, 1, None)


def spec(attempt: AttemptId = TASK) -> TaskSpec:
    return TaskSpec(attempt, STAGE, splits=(Split("/in", 0, 1, 1, "text"),))


def test_a_worker_gets_a_name_of_its_own_and_is_told_the_heartbeat(mill: Mill) -> None:
    one, other = mill.worker(), mill.worker(rack="r1")
    welcome = one.heard.welcomes[0]
    assert (welcome.worker, welcome.beat_seconds, welcome.lost_seconds) == ("w#1", 0.1, 5.0)
    assert other.heard.welcomes[0].worker == "w#2"
    ups = mill.heard(WorkerUp)
    assert [up.worker for up in ups] == ["w#1", "w#2"]
    assert (ups[1].rack, ups[1].cpus, ups[1].memory_bytes) == ("r1", 2.0, 1 << 30)
    assert (ups[1].suspect_seconds, ups[1].lost_seconds) == (2.5, 5.0)
    assert mill.heard(SlotUp)[0] == SlotUp("w#1-1", "w#1", 3)


def test_a_wrong_token_opens_nothing(mill: Mill) -> None:
    over = mill.agent().connect(token="tokem").next_news(StreamOver)
    assert over.code == "UNAUTHENTICATED"
    assert mill.said == []


@pytest.mark.parametrize("join", [{"python": "3.1"}, {"version": "0.0.1"}])
def test_another_version_is_refused(mill: Mill, join: dict[str, str]) -> None:
    refused = mill.agent(**join).connect().next_news(Refused)
    assert refused.kind == pb.Refusal.VERSION
    for version in (PYTHON_VERSION, VERSION, *join.values()):
        assert version in refused.reason
    assert mill.said == []


def test_a_stream_without_join_is_refused(mill: Mill) -> None:
    agent = mill.agent()
    agent.facts.clear()
    agent.attendance.id = ""
    assert agent.connect().next_news(Refused).kind == pb.Refusal.VERSION


def freed(agent: Any) -> list[str]:
    return [path for order in agent.heard.orders if order.WhichOneof("order") == "free" for path in order.free.paths]


def test_launches_and_their_answers(mill: Mill) -> None:
    agent = mill.worker()
    mill.fleet.add_job(job())
    wait_until(lambda: agent.heard.kinds() == ["add_job"])
    agent.say(admitted=pb.Admitted(job="j"))
    mill.wait_for(JobAdmitted)
    mill.fleet.launch("w#1-1", spec())
    mill.fleet.launch("w#1-1", spec(AttemptId("j", 0, 1, 1)))
    wait_until(lambda: agent.heard.kinds() == ["add_job", "add_stage", "launch", "launch"])
    kept = "/data/jobs/j/blocks/a"
    block = BlockInfo(kept, (SegmentInfo(0, 1, 2, 3),))
    agent.done(result=TaskResult(records_in=3, block=block))
    done = mill.wait_for(AttemptDone)
    assert done == AttemptDone(TASK, TaskResult(records_in=3, block=BlockInfo(kept, block.segments, "w#1")))
    mill.fleet.cancel(AttemptId("j", 0, 1, 1))
    for path in (kept, "/blocks/b"):
        mill.fleet.free(BlockInfo(path, (), "w#1"))
    mill.fleet.free(BlockInfo("/blocks/c", (), "w#77"))
    mill.fleet.drop_job("j")
    wait_until(lambda: "drop_job" in agent.heard.kinds() and len(freed(agent)) == 2)
    assert set(agent.heard.kinds()[4:]) == {"cancel", "drop_job", "free"}
    assert freed(agent) == [kept, "/blocks/b"]  # in one order or in two


def test_a_launch_that_crosses_the_end_of_its_slot_is_answered(mill: Mill) -> None:
    agent = mill.worker()
    agent.say(slot_down="w#1-1")
    mill.wait_for(SlotDown)
    mill.fleet.launch("w#1-1", spec())
    failed = mill.wait_for(AttemptFailed)
    assert (failed.attempt, failed.report.error, failed.slot_leaves) == (TASK, "AttemptNotBegun", True)
    agent.say(goodbye=pb.Goodbye(reason="it was told to leave"))
    mill.wait_for(WorkerDown)
    mill.fleet.launch("w#1-1", spec(AttemptId("j", 0, 1, 1)))  # the loss of the worker answers this one
    mill.agent().joined()
    assert len(mill.heard(AttemptFailed)) == 1


@pytest.mark.parametrize(
    "result",
    [
        TaskResult(parts=(PartFile("../../secret", "part-r-00000", 1, 1),)),
        TaskResult(parts=(PartFile("attempts/a", "/etc/part", 1, 1),)),
        TaskResult(parts=(PartFile("attempts/a", "tokens.json", 1, 1),)),
        TaskResult(parts=(PartFile("owner.json", "part-r-00000", 1, 1),)),
        TaskResult(block=BlockInfo("/shared/j/../../etc/passwd", (SegmentInfo(0, 1, 1, 1),))),
        TaskResult(block=BlockInfo("/etc/passwd", (SegmentInfo(0, 1, 1, 1),))),
        TaskResult(block=BlockInfo("file:///etc/passwd", (SegmentInfo(0, 1, 1, 1),))),
    ],
)
@pytest.mark.parametrize("shuffle_dir", ["/shared", ""])
def test_a_result_that_names_files_of_others_costs_the_attempt(
    mill: Mill, result: TaskResult, shuffle_dir: str
) -> None:
    mill.fleet.add_job(replace(job(), shuffle_dir=shuffle_dir))
    mill.wait_for(JobAdmitted)
    agent = mill.agent().joined()
    wait_until(lambda: agent.heard.kinds() == ["add_job"])
    agent.say(admitted=pb.Admitted(job="j"))
    mill.wait_for(WorkerUp)
    own = "/shared/j/a.block" if shuffle_dir else "/data/jobs/j/blocks/a.block"
    agent.done(result=TaskResult(block=BlockInfo(own, (SegmentInfo(0, 1, 1, 1),), "another")))
    assert mill.wait_for(AttemptDone).result.block.worker == ("" if shuffle_dir else agent.heard.welcomes[0].worker)
    agent.done(AttemptId("j", 0, 1, 1), result)
    failed = mill.wait_for(AttemptFailed)
    assert failed.attempt == AttemptId("j", 0, 1, 1) and failed.report.error == "AnswerInvalid"
    assert len(mill.heard(AttemptDone)) == 1 and not mill.heard(WorkerDown)


def test_blocks_of_another_worker_come_with_their_address(mill: Mill) -> None:
    keeper, reader = mill.worker(machine="m1", flight="keeper:9"), mill.worker(machine="m2")
    block = BlockInfo("/b", (SegmentInfo(0, 1, 1, 1),), keeper.heard.welcomes[0].worker)
    mill.fleet.launch("w#2-1", TaskSpec(TASK, STAGE, blocks=(block,)))
    wait_until(lambda: "launch" in reader.heard.kinds())
    launch = reader.heard.orders[-1].launch
    assert [(one.worker, one.flight, one.machine) for one in launch.sources] == [("w#1", "keeper:9", "m1")]
    assert list(launch.blocks.worker) == [1]


def test_what_is_said_while_the_stream_is_broken_arrives_once(mill: Mill) -> None:
    agent = mill.worker()
    agent.attendance.disconnect()
    mill.fleet.launch("w#1-1", spec())
    agent.say(slot_up=pb.SlotUp(slot="w#1-2", depth=1))
    agent.joined()
    wait_until(lambda: agent.heard.kinds() == ["add_stage", "launch"])
    wait_until(lambda: len(mill.heard(SlotUp)) == 2)
    for _ in range(3):
        agent.joined()
    agent.say(slot_down="w#1-2")
    mill.wait_for(SlotDown)
    assert len(mill.heard(SlotUp)) == 2
    assert len(mill.heard(WorkerUp)) == len(agent.heard.welcomes) == 1
    assert len(agent.heard.orders) == 2


def test_orders_keep_their_order_when_a_stream_is_given_up_in_the_midst_of_them(mill: Mill) -> None:
    agent = mill.worker()
    held, slow = threading.Event(), threading.Event()
    hear = agent.heard.hear

    def hear_slowly(orders: Sequence[pb.Order]) -> None:
        if not slow.is_set():
            slow.set()
            held.wait(PATIENCE)
        hear(orders)

    agent.heard.hear = hear_slowly  # type: ignore[method-assign]
    mill.fleet.launch("w#1-1", spec())
    assert slow.wait(PATIENCE)
    agent.connect()  # as when the coordinator is not heard for too long
    mill.fleet.launch("w#1-1", spec(AttemptId("j", 0, 1, 1)))
    assert not agent.attendance.is_live
    held.set()
    wait_until(lambda: agent.heard.kinds() == ["add_stage", "launch", "launch"])
    assert len(agent.heard.welcomes) == 1
    assert [order.launch.attempt.index for order in agent.heard.orders[1:]] == [0, 1]


def test_what_a_dropped_worker_says_is_not_heard(mill: Mill) -> None:
    agent = mill.worker()
    mill.fleet.launch("w#1-1", spec())
    agent.attendance.disconnect()
    mill.fleet.drop_worker("w#1")
    agent.done()
    agent.connect()
    refused = agent.next_news(Refused)
    assert refused.kind == pb.Refusal.FENCED
    assert "No sign of life came from worker w#1 for 5 s" in refused.reason
    assert mill.worker().heard.welcomes[0].worker == "w#2"
    assert not mill.heard(AttemptDone)
    assert not mill.heard(WorkerDown)  # whoever drops a worker knows that it is gone


def test_a_dropped_worker_is_told_at_once_if_it_listens(mill: Mill) -> None:
    agent = mill.worker()
    mill.fleet.drop_worker("w#1")
    assert agent.next_news(Refused).kind == pb.Refusal.FENCED


def test_a_session_of_another_coordinator_is_unknown(mill: Mill) -> None:
    agent = mill.worker()
    agent.attendance.disconnect()
    mill.fleet.close()
    mill.fleet = agent.fleet = ClusterFleet("token")
    mill.fleet.start(mill.said.append)
    agent.connect()
    assert agent.next_news(Refused).kind == pb.Refusal.UNKNOWN


def test_goodbye_is_a_loss_at_once(mill: Mill) -> None:
    agent = mill.worker()
    agent.say(goodbye=pb.Goodbye(reason="It has drained."))
    assert mill.wait_for(WorkerDown) == WorkerDown("w#1", "It has drained.", left=True)
    assert agent.next_news(Refused).kind == pb.Refusal.DISMISSED


def test_a_beat_does_not_outrun_results(mill: Mill) -> None:
    """A list without an attempt whose result is on its way would make the scheduler believe that it is lost."""
    agent = mill.worker()
    mill.fleet.launch("w#1-1", spec())
    wait_until(lambda: "launch" in agent.heard.kinds())
    agent.attendance.beat({TASK: Progress(5, 50)})
    wait_until(lambda: any(beat.attempts for beat in mill.heard(Beat)))
    assert mill.heard(Beat)[-1] == Beat("w#1", {TASK: Progress(5, 50)})
    agent.attendance.disconnect()
    agent.done()
    agent.attendance.beat({})
    agent.joined()
    wait_until(lambda: mill.heard(Beat)[-1] == Beat("w#1", {}))
    empty = mill.said.index(Beat("w#1", {}), mill.said.index(mill.heard(Beat)[0]))
    assert mill.said.index(mill.heard(AttemptDone)[0]) < empty


def test_an_impossible_message_costs_the_session(mill: Mill) -> None:
    agent = mill.worker()
    agent.say(failed=pb.Failed(attempt=attempt_message(TASK), report=b"{"))
    assert agent.next_news(Refused).kind == pb.Refusal.FENCED
    assert "session cannot go on" in mill.wait_for(WorkerDown).reason
    assert not mill.heard(AttemptFailed)


def test_a_job_that_a_worker_cannot_run_is_rejected_with_its_name(mill: Mill) -> None:
    agent = mill.worker()
    mill.fleet.add_job(job())
    wait_until(lambda: agent.heard.kinds() == ["add_job"])
    assert agent.heard.orders[0].add_job.ticket
    refusal = json_bytes(FailureReport("PathNotShared", "the input /in cannot be read there"))
    agent.say(admitted=pb.Admitted(job="j", refusal=refusal))
    report = mill.wait_for(JobRejected).report
    assert report.message == "Worker w#1 does not see what the coordinator sees: the input /in cannot be read there."


def test_a_job_that_ends_before_it_is_told_of_is_nobodys_business(mill: Mill) -> None:
    """Else every worker that comes later would be asked about it, and refused, for its files are gone."""
    mill.fleet.add_job(job())
    mill.fleet.drop_job("j")
    mill.fleet.add_job(job("other"))
    mill.wait_for(JobAdmitted)
    agent = mill.agent().joined()
    wait_until(lambda: agent.heard.orders)
    assert [order.add_job.job for order in agent.heard.orders] == ["other"]
    assert list(agent.heard.welcomes[0].jobs) == ["other"]


def test_a_listener_that_fails_is_news(mill: Mill) -> None:
    agent = mill.agent()
    agent.heard.welcomes = None  # type: ignore[assignment]
    agent.connect()
    assert isinstance(agent.next_news(Crashed).error, AttributeError)


def test_a_port_that_is_taken_is_named(mill: Mill) -> None:
    port = int(mill.fleet.address.rpartition(":")[2])
    with pytest.raises(UsageError, match=f"Agents cannot be served at 127.0.0.1:{port}"):
        ClusterFleet("token", port=port).start(print)


def test_the_version_is_that_of_the_package() -> None:
    import gristmill

    assert gristmill.__version__ == VERSION
