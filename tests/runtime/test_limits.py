"""What an executor's process is held to by the system, and which variables it gets."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill.config import MIB
from gristmill.runtime.process import environment
from gristmill.runtime.process.limits import Limits, file_limit, limit_this_process, limits_of, user_processes
from gristmill.runtime.process.processes import hide_this_process

NOBODY = 65_534
_PR_GET_DUMPABLE = 3


def in_a_child(check: Callable[[], bool]) -> bool:
    """What a check says in a process of its own, which it may change."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


posix = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_limits_travel() -> None:
    assert Limits.from_text(Limits(7, 9).to_text()) == Limits(7, 9)
    assert limits_of(None, None).processes >= 256 and limits_of(None, None).file_bytes is None
    assert limits_of(3, 5) == Limits(3, 5)


@posix
def test_the_system_holds_what_it_can() -> None:
    def check() -> bool:
        limit_this_process(Limits(10, 5 * MIB), user_processes=100)
        score = int(Path("/proc/self/oom_score_adj").read_text())
        return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0) and file_limit() == 5 * MIB and score >= 500

    assert in_a_child(check)


@posix
def test_limits_that_are_lower_already_stay() -> None:
    def check() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
        limit_this_process(Limits(10, 5 * MIB), user_processes=0)
        return file_limit() == MIB

    assert in_a_child(check)


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else")
def test_users_other_than_root_are_held_to_a_number_of_processes() -> None:
    def check() -> bool:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        counted = user_processes()
        limit_this_process(Limits(1000), counted)
        return counted >= 1 and resource.getrlimit(resource.RLIMIT_NPROC)[0] == counted + 16_000

    assert in_a_child(check)


@posix
def test_a_process_that_is_hidden_cannot_be_read_by_others_of_its_user() -> None:
    def check() -> bool:
        return hide_this_process() and ctypes.CDLL(None).prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0

    assert in_a_child(check)


def test_variables_are_kept_back_and_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_drop", list(environment.DROPPED))
    monkeypatch.setattr(environment, "_pass", list(environment.PASSED))
    for name in ("GRISTMILL_TOKEN", "GRISTMILL_SERVE_WEBHOOK", "GRISTMILL_DEBUG", "DB_PASSWORD", "DB_HOST", "PLAIN"):
        monkeypatch.setenv(name, "x")
    found = environment.inherited()
    assert {"GRISTMILL_DEBUG", "DB_PASSWORD", "DB_HOST", "PLAIN", "PATH"} <= found.keys()
    assert not {"GRISTMILL_TOKEN", "GRISTMILL_SERVE_WEBHOOK"} & found.keys()
    environment.hide_from_executors("DB_*")
    environment.pass_to_executors("DB_HOST")
    found = environment.inherited()
    assert "DB_PASSWORD" not in found and "DB_HOST" in found
