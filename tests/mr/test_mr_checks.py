"""The seven checks for ``mr-coordinator`` and ``mr-worker``, once; and 20 times over in the soak."""

from __future__ import annotations

from pathlib import Path

import pytest
from mr_checks import CHECKS, Check
from mr_kit import lab

ROUNDS = 20
_names = [check.__name__.removeprefix("check_") for check in CHECKS]


@pytest.mark.parametrize("check", CHECKS, ids=_names)
def test_the_seven_checks(tmp_path: Path, check: Check) -> None:
    with lab(tmp_path) as here:
        check(here, 0)


@pytest.mark.soak
@pytest.mark.parametrize("round", range(1, ROUNDS + 1))
@pytest.mark.parametrize("check", CHECKS, ids=_names)
def test_the_seven_checks_20_times(tmp_path: Path, check: Check, round: int) -> None:
    with lab(tmp_path) as here:
        check(here, round)
