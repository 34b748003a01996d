"""What moves from member to member is damaged on its way, or lost with its node: it is asked for again, or made again.

The test takes a hand in members that are at work: it has them do something to one answer, once.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from chaos_ray_kit import pids_of
from ray_kit import PATIENCE, RayCluster, ray_marks

from gristmill import Session

pytestmark = [pytest.mark.soak, *ray_marks]

ROWS, ROW_BYTES = 20, 100_000  # of each map task and partition; more than Ray puts into the answer of a call itself
Found = list[tuple[int, int, int]]


class Shuffle:
    """A session in which each member runs one map task, and reducers read what all of them have made."""

    def __init__(self, folder: Path, members: int) -> None:
        self.count = members
        self.begun = folder / "begun"
        self.begun.mkdir()
        self.session = Session(on="ray", executors=members, data_dir=folder / "data", speculation=False)

    def members(self) -> list[Any]:
        """Those actors, once they are all there and nobody else's are."""
        import ray

        assert self.session.range(3).count() == 3
        until(lambda: len(_names()) == self.count)
        return [ray.get_actor(**one) for one in _names()]

    def run(self) -> Found:
        """Of each row: its number, the map task that made it, and its checksum."""
        begun, count = self.begun, self.count

        def meet(numbers: Iterator[int]) -> Iterator[tuple[int, bytes]]:
            (begun / str(os.getpid())).touch()
            deadline = time.monotonic() + PATIENCE
            while len(list(begun.glob("[0-9]*"))) < count:  # none goes on before all have begun
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for number in numbers:
                (begun / f"map {number} {os.getpid()}").touch()
                for row in range(count * ROWS):
                    yield row, bytes([number, row]) * (ROW_BYTES // 2)

        pairs = self.session.range(count, partitions=count).map_partitions(meet).partition_by(count)
        return sorted(pairs.map(lambda pair: (pair[0], pair[1][0], crc32(pair[1]))).collect())

    def expected(self) -> Found:
        """What it must give."""
        numbers, rows = range(self.count), range(self.count * ROWS)
        return [(row, number, crc32(bytes([number, row]) * (ROW_BYTES // 2))) for row in rows for number in numbers]

    def ran(self) -> Counter[int]:
        """How often each map task has run."""
        return Counter(int(path.name.split()[1]) for path in self.begun.glob("map *"))

    def on(self, pids: set[int]) -> set[int]:
        """The map tasks that have run in one of these processes."""
        ran = [path.name.split()[1:] for path in self.begun.glob("map *")]
        return {int(number) for number, pid in ran if int(pid) in pids}


def until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _names() -> list[dict[str, str]]:
    import ray

    return [one for one in ray.util.list_named_actors(all_namespaces=True) if one["name"].startswith("gristmill-")]


def test_what_arrives_damaged_is_asked_for_again(on_ray: RayCluster, tmp_path: Path) -> None:
    """A byte of what each member sends first is another."""
    import ray

    def take_a_hand(member: Any) -> None:
        import pyarrow as pa

        whole = member._blocks.read
        member.asked = []

        def read(request: bytes) -> list[Any]:
            answer: list[Any] = whole(request)
            member.asked.append(request)
            if len(member.asked) == 1:
                columns = [column.to_pylist() for column in answer[0].columns]
                columns[1][0] = bytes([columns[1][0][0] ^ 1]) + columns[1][0][1:]
                answer[0] = pa.record_batch(columns, schema=answer[0].schema)
            return answer

        member._blocks.read = read

    shuffle = Shuffle(tmp_path, 2)
    with shuffle.session:
        members = shuffle.members()
        ray.get([member.__ray_call__.remote(take_a_hand) for member in members], timeout=PATIENCE)
        assert shuffle.run() == shuffle.expected()
        asked = ray.get([member.__ray_call__.remote(lambda one: one.asked) for member in members], timeout=PATIENCE)
    assert set(shuffle.ran().values()) == {1}, "no map task has run again"
    pieces = [str(piece) for request in chain(*asked) for piece in json.loads(request)["pieces"]]
    assert max(Counter(pieces).values()) == 2, "once was enough"


def test_an_object_is_lost_with_its_node_before_it_is_read(on_ray: RayCluster, tmp_path: Path) -> None:
    """It lies in the memory of the node that answered, and readers elsewhere know of it, when that node is killed."""
    import ray

    node, stored, gone = on_ray.add_node(), tmp_path / "stored", tmp_path / "gone"
    shuffle = Shuffle(tmp_path, 3)

    def take_a_hand(member: Any, keeper: str) -> None:
        from types import SimpleNamespace

        import ray

        from gristmill.fleets.ray import moving

        def get_late(reference: Any, **options: Any) -> Any:
            if reference.task_id().actor_id().hex() == keeper:
                assert ray.wait([reference], fetch_local=False, **options)[0]
                stored.touch()
                deadline = time.monotonic() + PATIENCE
                while not gone.exists():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            return ray.get(reference, **options)

        vars(moving)["ray"] = SimpleNamespace(**{**vars(ray), "get": get_late})

    def kill() -> set[int]:
        until(stored.exists)
        lost = shuffle.on(pids_of(node))
        node.kill()
        gone.touch()
        return lost

    try:
        with shuffle.session, ThreadPoolExecutor(1) as aside:
            members = shuffle.members()
            places = ray.get([one.__ray_call__.remote(lambda one: one._premises.machine) for one in members])
            [keeper] = [one for one, place in zip(members, places, strict=True) if place == node.id]
            others = [one for one in members if one is not keeper]
            ray.get([one.__ray_call__.remote(take_a_hand, keeper._actor_id.hex()) for one in others], timeout=PATIENCE)
            killed = aside.submit(kill)
            assert shuffle.run() == shuffle.expected()
            lost = killed.result(PATIENCE)
    finally:
        node.kill()
        on_ray.remove_node(node, graceful=False)
    assert {number for number, count in shuffle.ran().items() if count > 1} == lost != set()
