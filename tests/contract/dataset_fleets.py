"""The fleets of the contract suite of datasets: a session on each, and datasets of given partitions in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaos_cluster_kit import site
from dataset_cases import Case, assert_same
from dataset_model import Model
from dataset_values import Parts, exact

from gristmill import Session

FLEETS = ("inline", "local", "server")


@contextmanager
def session_on(fleet: str, folder: Path) -> Iterator[Session]:
    """A session on a fleet of this name; everything lies in ``folder``."""
    if fleet == "server":
        with site(folder, workers=2) as served, Session(on=served.url, token_file=served.token_file) as session:
            yield session
    else:
        with Session(on=fleet, executors=2, memory="512MiB", data_dir=folder) as session:
            yield session


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
