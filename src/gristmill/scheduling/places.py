"""Where a ready task goes: near its input if that can be had soon, else anywhere.

This is delay scheduling (Zaharia et al., "Delay scheduling: a simple technique for achieving locality and fairness in
cluster scheduling", EuroSys 2010), told by slots instead of jobs: a free slot that has nothing of a stage near it
stays free for up to half of ``locality_seconds`` for this stage, then takes a task whose input is in the same rack, and
after the whole of it any task. So no slot is idle for longer while a task is ready, and the wait is worth it, since a
slot nearby mostly comes free in that time.

* A task with an input on named hosts would best run there. If no worker stands on any of them, any place is as good.
* A task that reads a partition would best run where most of its bytes lie. That is worth waiting for only if it saves
  a good part of the copying; else it only decides which of the tasks a free slot takes.
* A task that was launched before goes anywhere at once, but for the worker that it failed on.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from heapq import heappop
from itertools import accumulate
from typing import NamedTuple

from gristmill.scheduling.state import Alarm, Job, Offer, Places, SchedulerState, Slot, Stage, Worker

MOST_ENTRIES = 1_000_000
"""Workers times partitions of a stage for which bytes are counted. Beyond, any place is as good."""

WORTH_WAITING = 0.2
"""So much of all bytes must be spared by running everything at its best place rather than just anywhere."""

_TOO_MANY = -1  # stands in Stage.only_maker


class Place(NamedTuple):
    """A ready task and a slot for it."""

    slot: Slot
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a place


def count_bytes(stage: Stage, worker: Worker, sizes: tuple[int, ...]) -> None:
    """Note where a block lies. Called before its sizes are added to the stage's.

    While one worker has all the blocks, its row is the stage's own sum, so nothing is kept. Rows are hints: a block
    that was lost alone is still counted.
    """
    if not sizes:
        return
    if stage.only_maker is None and stage.bytes_on is None:
        stage.only_maker = worker.number
    if stage.only_maker in (worker.number, _TOO_MANY):
        return
    if stage.bytes_on is None:
        assert stage.only_maker is not None
        stage.bytes_on = {stage.only_maker: array("q", stage.partition_bytes)}
        stage.only_maker = None
    row = stage.bytes_on.get(worker.number)
    if row is None:
        if (len(stage.bytes_on) + 1) * len(sizes) > MOST_ENTRIES:
            stage.bytes_on, stage.only_maker = None, _TOO_MANY
            return
        row = stage.bytes_on[worker.number] = array("q")
    if len(row) < len(sizes):
        row.extend([0] * (len(sizes) - len(row)))
    for partition, size in enumerate(sizes):
        row[partition] += size


def find_places(state: SchedulerState, stage: Stage) -> None:
    """The stage's tasks are ready: note where those that were never launched would best run."""
    stage.places = None
    if stage.hosts:
        stage.places = _by_host(state, stage)
    elif any(parent.bytes_on for parent in stage.parents):
        stage.places = _by_bytes(state, stage)


def _by_host(state: SchedulerState, stage: Stage) -> Places:
    local: dict[str, list[int]] = {}
    anywhere: list[int] = []
    for index in range(stage.tasks - 1, -1, -1):
        hosts = stage.hosts[index] if index < len(stage.hosts) else ()
        for host in hosts:
            local.setdefault(host, []).append(index)
        if not any(host in state.hosts for host in hosts):
            anywhere.append(index)
    return Places(True, True, local, anywhere, state.now)


def _by_bytes(state: SchedulerState, stage: Stage) -> Places | None:
    """Each partition at the worker with most of its bytes, over all parents that kept count."""
    rows: dict[int, list[int]] = {}
    partitions = stage.reads[-1][1] if stage.reads else stage.tasks
    for parent in stage.parents:
        if parent.bytes_on is None or len(parent.partition_bytes) != partitions:
            continue
        for number, row in parent.bytes_on.items():
            sums = rows.setdefault(number, [0] * stage.tasks)
            for task, size in enumerate(_by_task(stage, row)):
                sums[task] += size
    names = {worker.number: worker.name for worker in state.workers.values() if worker.number in rows}
    if len(names) < 2:
        return None
    numbers = list(names)
    local: dict[str, list[int]] = {}
    spared = 0
    everything = sum(sum(rows[number]) for number in numbers)
    columns = list(zip(*(rows[number] for number in numbers), strict=True))
    for index in range(stage.tasks - 1, -1, -1):
        most = max(columns[index])
        spared += most
        local.setdefault(names[numbers[columns[index].index(most)]], []).append(index)
    waits = spared - everything / len(numbers) >= WORTH_WAITING * everything and everything > 0
    return Places(False, waits, local, [], state.now)


def _by_task(stage: Stage, row: array[int]) -> Iterable[int]:
    """Bytes of partitions as bytes of the tasks that read them."""
    if not stage.reads:
        return row
    before = [*accumulate(row, initial=0)]
    before += before[-1:] * (stage.reads[-1][1] + 1 - len(before))  # the last partitions may have nothing here
    return [before[end] - before[begin] for begin, end in stage.reads]


def leave_place(state: SchedulerState, key: str, by_host: bool) -> None:
    """A worker, or the last one of a host, takes no more work: what would best run there runs anywhere."""
    for job in state.jobs.values():
        for stage in job.stages.values():
            if stage.places is not None and stage.places.by_host == by_host:
                stage.places.anywhere.extend(stage.places.local.pop(key, ()))


def find_place(state: SchedulerState, job: Job, stage: Stage) -> Place | None:
    """A slot and a task of a ready stage, if one should start now. There is a slot in the offer."""
    offer = state.offers[job.shape]
    if stage.requeued:
        index = stage.requeued[0]
        slot = _pick_slot(offer, stage, index)
        heappop(stage.requeued)
        return Place(slot, index)
    places = stage.places
    if places is None:
        return Place(next(iter(offer.slots.values())), stage.next_fresh())
    for position in range(bisect_right(offer.log, places.scanned, key=_sequence), len(offer.log)):
        places.scanned, slot = offer.log[position]
        if slot.id in offer.slots and (found := local_task(stage, slot.worker)) is not None:
            return Place(slot, found)
    first = next(iter(offer.slots.values()))
    if (found := _take(stage, places.anywhere)) is not None:
        return Place(first, found)
    if not places.waits or state.now >= _free_since(first, places) + job.locality_seconds:
        return Place(first, stage.next_fresh())
    return _near(state, job, stage, places, offer)


def _near(state: SchedulerState, job: Job, stage: Stage, places: Places, offer: Offer) -> Place | None:
    """A task in the rack of a slot that has waited for half of the time; or an alarm for when there may be more."""
    half = job.locality_seconds / 2
    racks = bool(state.rack_of) and places.by_host
    for slot in offer.slots.values():
        if state.now < _free_since(slot, places) + half:
            break
        if racks and slot.worker.rack:
            if places.racks is None:
                places.racks = _by_rack(state, stage)
            if (found := _take(stage, places.racks.get(slot.worker.rack, []))) is not None:
                return Place(slot, found)
    if stage.look_at is None:
        since = _free_since(next(iter(offer.slots.values())), places)
        stage.look_at = since + (half if racks and state.now < since + half else job.locality_seconds)
        state.set_timer(stage.look_at, Alarm.LOOK, (job.id, stage.id))
    return None


def _free_since(slot: Slot, places: Places) -> float:
    """Since when the slot has been free while the stage had ready tasks."""
    return max(slot.offered_at, places.since)


def _by_rack(state: SchedulerState, stage: Stage) -> dict[str, list[int]]:
    racks: dict[str, list[int]] = {}
    for index in range(stage.tasks - 1, -1, -1):
        if stage.is_fresh(index) and index < len(stage.hosts):
            for rack in {state.rack_of.get(host, "") for host in stage.hosts[index]}:
                racks.setdefault(rack, []).append(index)
    return racks


def local_task(stage: Stage, worker: Worker) -> int | None:
    """A task that would best run at this worker, never launched so far."""
    places = stage.places
    if places is None:
        return None
    return _take(stage, places.local.get(worker.host if places.by_host else worker.name, []))


def _take(stage: Stage, tasks: list[int]) -> int | None:
    while tasks:
        if stage.is_fresh(index := tasks.pop()):
            return index
    return None


def _sequence(entry: tuple[int, Slot]) -> int:
    return entry[0]


def _pick_slot(offer: Offer, stage: Stage, index: int) -> Slot:
    """The longest free slot; for a retry rather on another worker, or in another slot, than those it failed on.

    The search passes over these workers' free slots at most.
    """
    first = next(iter(offer.slots.values()))
    trouble = stage.troubles.get(index)
    if trouble is None or first.worker.name not in trouble.avoid:
        return first
    other_slot = None
    for slot in offer.slots.values():
        if slot.worker.name not in trouble.avoid:
            return slot
        if other_slot is None and slot.id != trouble.slot:
            other_slot = slot
    return other_slot or first
