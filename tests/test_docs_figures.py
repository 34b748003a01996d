"""The figures that the operations page and those on datasets give are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from gristmill.api.client import PATIENCE_SECONDS
from gristmill.api.datasets.actions import Actions
from gristmill.api.datasets.keeping import StorageLevel
from gristmill.api.datasets.makers import DEFAULT_PARTITIONS
from gristmill.cli.serve import serve
from gristmill.compute.values import HELD_BYTES
from gristmill.config import GIB, MIB, MIN_EXECUTOR_MEMORY_BYTES, JobOptions, format_size
from gristmill.plan.adapt import LIMITS
from gristmill.runtime.agent.agent import AgentSettings
from gristmill.runtime.contracts import KEPT_SHARE
from gristmill.runtime.files import blobs
from gristmill.runtime.files.jobfolder import MAX_AGE_SECONDS, MAX_TOTAL_BYTES
from gristmill.runtime.worker.datadirs import FULL_SECONDS
from gristmill.runtime.worker.worker import WorkerSettings
from gristmill.scheduling import breaker
from gristmill.scheduling.events import RetryPolicy

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
TEXT = re.sub(r"\s+", " ", PAGE)
DATASETS = re.sub(r"\s+", " ", (DOCS / "how-to-datasets.md").read_text(encoding="utf-8"))


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


def test_sessions() -> None:
    defaults = {option.name: str(option.default) for option in serve.params}
    assert f"`serve --session-lease` ({defaults['session_lease'].replace('s', ' s')})" in TEXT
    assert defaults["session_lease"] == "60s" and "[a minute](operations.md#sessions)" in DATASETS
    assert KEPT_SHARE == 4 and "takes at most a quarter of `--memory`" in TEXT
    assert "takes at most a quarter of its `memory`" in DATASETS


def test_datasets() -> None:
    limit = inspect.signature(Actions.collect).parameters["limit"].default
    assert limit == GIB and "refuse to bring more than 1 GiB" in DATASETS
    assert f"beyond {HELD_BYTES // MIB} MiB they go to a file" in DATASETS
    assert f"from {HELD_BYTES // MIB} MiB on lie in a file" in DATASETS
    assert f"if one proves small ({LIMITS.whole_bytes // MIB} MiB), only that one" in DATASETS
    assert f"the larger from {LIMITS.held_bytes // MIB} MiB or more" in DATASETS
    assert LIMITS.held_times == 4 and "the other from a quarter of that at most" in DATASETS
    assert f"`from_items`, `range`, `from_arrow`, `from_pandas` | {DEFAULT_PARTITIONS}, or fewer" in DATASETS
    assert all(f'`persist("{level}")`' in DATASETS for level in StorageLevel)
