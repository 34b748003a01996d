"""Chains of several operations, drawn at random, do what their model does, on every fleet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dataset_chains import Chain, chains
from dataset_fleets import ALL_FLEETS, dataset_of, session_for, session_on
from dataset_values import exact
from hypothesis import Phase, given, settings

from gristmill import Session


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_on("inline", tmp_path_factory.mktemp("here")) as opened:
        yield opened


@pytest.fixture(scope="module", params=ALL_FLEETS)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session_for(request, tmp_path_factory) as opened:
        yield opened


def came(chain: Chain, session: Session) -> Any:
    return chain.run([dataset_of(session, parts) for parts in chain.data])


@settings(max_examples=50, derandomize=True)
@given(chains())
def test_some_chains(inline: Session, chain: Chain) -> None:
    chain.check(came(chain, inline))


@pytest.mark.soak
def test_many_chains(session: Session, inline: Session) -> None:
    @settings(max_examples=300 if "on ray" in repr(session) else 1500, phases=(Phase.generate,))
    @given(chains(9))
    def run(chain: Chain) -> None:
        got = came(chain, session)
        chain.check(got)
        assert exact(got) == exact(came(chain, inline)), "fleets differ"

    run()
