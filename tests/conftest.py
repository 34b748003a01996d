"""What holds for every test.

Hypothesis keeps no database beside the code: a failing example is printed with what makes it again. Signals are as on a
terminal: a shell that runs the suite in the background has them ignored, and so would every process that a test starts.
Files that take long come first: where several processes share the files, the last ones are short, and all end together.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LONG = {"test_docs_run.py", "chaos", "page", "service", "mr", "fleets", "cli"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONG.isdisjoint(item.path.parts))
