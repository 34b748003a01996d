"""Ctrl-C at any moment: held back while a job starts, raised at once after that."""

import os
import signal

import pytest

from gristmill.cli.running import Interrupts

NUMBERS = [signal.SIGINT, signal.SIGTERM]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_one_waits_for_the_release(number: signal.Signals) -> None:
    heard: list[str] = []
    with Interrupts(lambda: heard.append("one")) as interrupts:
        signal.raise_signal(number)
        assert heard == ["one"]
        assert interrupts.release()


@pytest.mark.parametrize("number", NUMBERS)
def test_the_second_one_does_not_wait(number: signal.Signals) -> None:
    with Interrupts():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


@pytest.mark.parametrize("number", NUMBERS)
def test_after_the_release_it_is_raised_at_once(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        assert not interrupts.release()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
