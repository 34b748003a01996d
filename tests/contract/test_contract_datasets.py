"""Every transformation and action of datasets does what its model does, on every fleet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dataset_cases import CASES, Case
from dataset_fleets import FLEETS, check, session_on
from dataset_values import Parts
from hypothesis import Phase, given, settings

from gristmill import Session

few = settings(max_examples=4, derandomize=True)
many = settings(max_examples=100, phases=(Phase.generate,))


def case_of_each() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module", params=FLEETS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_on(request.param, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_on("inline", tmp_path_factory.mktemp("here")) as opened:
        yield opened


@case_of_each()
def test_fixed_data(case: Case, session: Session) -> None:
    for data in case.shape.fixed:
        check(case, session, data)


@case_of_each()
def test_some_drawn_data(case: Case, inline: Session) -> None:
    @few
    @given(case.shape.drawn)
    def run(data: tuple[Parts, ...]) -> None:
        check(case, inline, data)

    run()


@pytest.mark.soak
@case_of_each()
def test_much_drawn_data(case: Case, session: Session, inline: Session) -> None:
    @many
    @given(case.shape.drawn)
    def run(data: tuple[Parts, ...]) -> None:
        check(case, session, data, inline)

    run()
