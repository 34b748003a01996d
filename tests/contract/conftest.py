"""What the modules of the contract suite share: one server with its workers, which takes a while to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chaos_cluster_kit import Site, site


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with two workers that see different machines."""
    with site(tmp_path_factory.mktemp("served"), workers=2) as at:
        yield at
