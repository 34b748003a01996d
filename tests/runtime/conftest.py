"""What the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coordinator_kit import close_journals


@pytest.fixture(autouse=True)
def closed_journals() -> Iterator[None]:
    """No journal of a test outlives it."""
    yield
    close_journals()
