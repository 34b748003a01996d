"""The fleets of the contract suite of datasets: a session on each, and datasets of given partitions in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import Case, assert_same
from dataset_model import Model
from dataset_values import Parts, exact
from ray_kit import ray_marks

from gristmill import Session

# Each fleet, of how many cases one runs there in every run of the suite, and which; the others run in the soak.
FLEETS = {"inline": (1, 0), "local": (6, 0), "server": (24, 12), "ray": (48, 24)}
MARKS = {"ray": ray_marks}
# For fixtures: all fleets.
ALL_FLEETS = [pytest.param(fleet, marks=MARKS.get(fleet, ())) for fleet in FLEETS]
# Likewise, the slowest in the soak.
EACH_FLEET = [
    "inline",
    "local",
    *(pytest.param(at, marks=[pytest.mark.soak, *MARKS.get(at, ())]) for at in ("server", "ray")),
]


@contextmanager
def session_on(fleet: str, folder: Path, **options: Any) -> Iterator[Session]:
    """A session on this machine; everything lies in ``folder``."""
    with Session(on=fleet, executors=2, memory="512MiB", data_dir=folder, **options) as session:
        yield session


@contextmanager
def session_for(request: pytest.FixtureRequest, factory: pytest.TempPathFactory, **options: Any) -> Iterator[Session]:
    """A session on the fleet that a fixture's parameter names."""
    if request.param == "server":
        served = request.getfixturevalue("served")
        with Session(on=served.url, token_file=served.token_file, **options) as session:
            yield session
    elif request.param == "ray":
        nodes = request.getfixturevalue("ray_nodes")
        with nodes.joined(), session_on("ray", factory.mktemp("ray"), **options) as session:
            yield session
    else:
        with session_on(request.param, factory.mktemp(request.param), **options) as session:
            yield session


def on_fleets(names: str, cases: Iterable[Any], ids: Iterable[str]) -> pytest.MarkDecorator:
    """Each case on each fleet: parameters of a test that takes ``session``, and ``names``."""
    several = "," in names
    params = [
        pytest.param(
            fleet,
            *(case if several else [case]),
            id=f"{fleet}-{name}",
            marks=[*MARKS.get(fleet, ()), *(() if place % every == which else (pytest.mark.soak,))],
        )
        for fleet, (every, which) in FLEETS.items()
        for place, (case, name) in enumerate(zip(cases, ids, strict=True))
    ]
    return pytest.mark.parametrize(f"session,{names}", params, indirect=["session"], scope="module")


def dataset_of(session: Session, parts: Parts) -> Any:
    """A dataset of exactly these partitions, the empty ones included."""
    return session.from_items(parts, partitions=len(parts)).flat_map(list)


def came(session: Session, run: Callable[..., Any], data: tuple[Parts, ...]) -> Any:
    """What datasets give."""
    got = run(*(dataset_of(session, parts) for parts in data))
    return got.collect() if hasattr(got, "collect") else got


def check(case: Case, session: Session, data: tuple[Parts, ...], inline: Session | None = None) -> None:
    """A session gives what the model says, and ``inline`` just the same."""
    got = came(session, case.run, data)
    models = [Model(parts) for parts in data]
    if case.check is None:
        assert_same(got, case.run(*models))
    else:
        case.check(got, *models)
    if inline is not None:
        assert exact(got) == exact(came(inline, case.run, data)), "fleets differ"
