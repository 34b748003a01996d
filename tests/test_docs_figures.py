"""The figures that the operations page gives are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from gristmill.api.client import PATIENCE_SECONDS
from gristmill.cli.serve import serve
from gristmill.config import GIB, MIN_EXECUTOR_MEMORY_BYTES, JobOptions, format_size
from gristmill.runtime import blobs
from gristmill.runtime.agent import AgentSettings
from gristmill.runtime.datadirs import FULL_SECONDS
from gristmill.runtime.jobfolder import MAX_AGE_SECONDS, MAX_TOTAL_BYTES
from gristmill.runtime.worker import WorkerSettings
from gristmill.scheduling import breaker
from gristmill.scheduling.events import RetryPolicy

PAGE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text(encoding="utf-8")
TEXT = re.sub(r"\s+", " ", PAGE)


def budget(reason: str) -> str:
    """The second column of the row of the table of attempts that has ``reason``."""
    (row,) = [line for line in PAGE.splitlines() if line.startswith("|") and reason in line]
    return row.split("|")[2].strip()


def test_retries() -> None:
    policy = RetryPolicy()
    assert f"{policy.backoff_seconds:g} s at first, doubled each time up to {policy.backoff_limit_seconds:g} s" in TEXT
    assert budget("your function raised") == f"`--max-attempts`, {JobOptions().max_attempts}"
    assert budget("its process died") == str(policy.death_attempts)
    assert budget("too much memory") == str(policy.memory_attempts)
    assert budget("lost or damaged") == str(policy.fetch_attempts)
    assert budget("its executor went away") == str(policy.lost_attempts)
    assert policy.user_attempts == JobOptions().max_attempts


def test_pruning() -> None:
    assert f"folders older than {MAX_AGE_SECONDS / 86400:g} days" in TEXT
    assert f"until {MAX_TOTAL_BYTES / GIB:g} GiB are left" in TEXT


def test_memory() -> None:
    assert f"at least {format_size(MIN_EXECUTOR_MEMORY_BYTES).replace('.0 ', ' ')}" in TEXT
    assert f"made no progress for {AgentSettings().stall_seconds / 60:g} minutes" in TEXT


def test_clusters() -> None:
    defaults = {option.name: str(option.default) for option in serve.params}
    assert f"`serve --heartbeat` ({defaults['heartbeat'].replace('s', ' s')})" in TEXT
    assert f"`--heartbeat-limit` ({defaults['heartbeat_limit'].replace('s', ' s')})" in TEXT
    assert f"`--port` ({defaults['port']})" in TEXT
    assert f"as long as it is needed ({WorkerSettings.drain_seconds:g} s at most)" in TEXT
    assert f"nobody asked for in {blobs.MAX_AGE_SECONDS / 86400:g} days" in TEXT
    assert breaker.FAILURES == 3 and "three different tasks in a row" in TEXT
    rest, longest = breaker.REST_SECONDS, breaker.REST_LIMIT_SECONDS / 60
    assert f"rests for {rest:g} s, then {rest * 2:g} s, up to {longest:g} minutes" in TEXT
    assert FULL_SECONDS == 10 and "rests for ten seconds at a time" in TEXT
    assert WorkerSettings.patience_seconds == PATIENCE_SECONDS == 600 and "give up after ten minutes without" in TEXT
