"""What is adapted to measured sizes is the same on every fleet: the decisions, the elements, their order."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import Any

import pytest
from dataset_fleets import EACH_FLEET, session_for, session_on

from gristmill import Session

ROWS = 20_000  # of about a kilobyte
HOT = 7


def wide(number: int) -> tuple[int, str]:
    """A row; nine of ten have one key."""
    return (HOT if number % 10 else number % 1000), f"{number:01200d}"


def with_one_more(values: list[str], value: str) -> list[str]:
    values.append(value)
    return values


def figures(session: Session, many: Path, few: Path) -> dict[str, Any]:
    """What datasets give that are adapted by the limits that hold for everybody."""
    rows = session.range(ROWS, partitions=8).map(wide)
    names = session.from_items([(key, f"name {key}") for key in range(1000)], 3)
    counts = rows.map_values(len).reduce_by_key(add)
    joined = rows.join(names).map(lambda pair: (pair[0], int(pair[1][0]), pair[1][1]))
    lists = rows.combine_by_key(lambda value: [value], with_one_more, add)
    turned = (
        session.read_text(str(many))
        .map(lambda line: (len(line) % 50, line[-20:]))
        .join(session.read_text(str(few)).map(lambda line: (int(line), f"few {line}")))
    )
    found: dict[str, Any] = {}
    for name, made in {"counts": counts, "joined": joined, "lists": lists.map_values(len), "turned": turned}.items():
        digest, count = sha256(), 0
        for element in made.iterate():
            digest.update(repr(element).encode())
            count += 1
        assert made._ran is not None
        found[name] = digest.hexdigest(), count, made._ran.adaptations, [s.tasks for s in made._ran.stages]
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file that is worth waiting with, and a small one."""
    folder = tmp_path_factory.mktemp("inputs")
    many, few = folder / "many.txt", folder / "few.txt"
    many.write_text("".join(f"{'x' * (number % 97)} {number:01000d}\n" for number in range(ROWS)))
    few.write_text("".join(f"{number}\n" for number in range(20)))
    return many, few


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory, inputs: tuple[Path, Path]) -> dict[str, Any]:
    with session_on("inline", tmp_path_factory.mktemp("here"), reducers=8) as session:
        return figures(session, *inputs)


@pytest.fixture(scope="module", params=EACH_FLEET[1:])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_for(request, tmp_path_factory, reducers=8) as opened:
        yield opened


def test_everything_is_adapted(inline: dict[str, Any]) -> None:
    merged = "stage 1 (reduce_by_key): 8 partitions are read by 4 tasks: small neighbours are merged"
    assert inline["counts"][2] == (merged,)
    assert "is read by" in inline["joined"][2][-1]
    assert inline["joined"][1] == ROWS
    assert "is merged by" in inline["lists"][2][-1]
    assert inline["lists"][1] == len({wide(number)[0] for number in range(ROWS)})
    assert "is not exchanged" in inline["turned"][2][0]


def test_every_fleet_adapts_alike(session: Session, inputs: tuple[Path, Path], inline: dict[str, Any]) -> None:
    assert figures(session, *inputs) == inline
