"""Every transformation and action of datasets does what its model does, on every fleet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dataset_cases import CASES, Case
from dataset_fleets import ALL_FLEETS, check, on_fleets, session_for, session_on
from dataset_values import Parts
from hypothesis import Phase, given, settings

from gristmill import Session

few = settings(max_examples=2, derandomize=True)
many = settings(max_examples=100, phases=(Phase.generate,))
on_ray = settings(many, max_examples=10)  # where each job takes as long as many do here


@pytest.fixture(scope="module", params=ALL_FLEETS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_for(request, tmp_path_factory) as opened:
        yield opened


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_on("inline", tmp_path_factory.mktemp("here")) as opened:
        yield opened


@on_fleets("case", CASES, [case.name for case in CASES])
def test_fixed_data(session: Session, case: Case) -> None:
    for data in case.shape.fixed:
        check(case, session, data)


@pytest.mark.parametrize("case", CASES[::3], ids=lambda case: case.name)  # the soak draws for all of them
def test_some_drawn_data(case: Case, inline: Session) -> None:
    @few
    @given(case.shape.drawn)
    def run(data: tuple[Parts, ...]) -> None:
        check(case, inline, data)

    run()


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_much_drawn_data(case: Case, session: Session, inline: Session) -> None:
    @(on_ray if "on ray" in repr(session) else many)
    @given(case.shape.drawn)
    def run(data: tuple[Parts, ...]) -> None:
        check(case, session, data, inline)

    run()
