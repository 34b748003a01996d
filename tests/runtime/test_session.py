"""Sessions: what is said is heard once, in order, whatever becomes of the streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gristmill.runtime.transport.session import Session, SessionBroken


def said(*items: str) -> Session[str]:
    session: Session[str] = Session()
    for item in items:
        session.say(item)
    return session


def test_items_are_numbered_and_kept_until_they_are_heard() -> None:
    session = said("a", "b", "c")
    assert session.take(max_items=2) == (1, ["a", "b"])
    assert session.has_more
    assert session.unheard == 3
    session.acknowledge(1)
    assert session.unheard == 2
    assert session.take() == (3, ["c"])
    assert not session.has_more
    session.acknowledge(3)
    assert session.unheard == 0
    assert session.said == 3


def test_a_new_stream_sends_again_what_was_not_heard() -> None:
    session = said("a", "b", "c")
    session.take(max_items=2)
    session.resume(1)
    assert session.take() == (2, ["b", "c"])
    session.say("d")
    session.resume(1)
    assert session.take() == (2, ["b", "c", "d"])


def test_what_comes_twice_is_heard_once() -> None:
    session: Session[str] = Session()
    assert session.hear(1, ["a", "b"]) == ["a", "b"]
    assert session.hear(1, ["a", "b"]) == []
    assert session.hear(2, ["b", "c"]) == ["c"]
    assert session.hear(9, []) == []
    assert session.heard == 3


def test_a_gap_breaks_the_session() -> None:
    session: Session[str] = Session()
    session.hear(1, ["a"])
    with pytest.raises(SessionBroken, match="Message 3 came after message 1"):
        session.hear(3, ["c"])


def test_a_late_acknowledgement_changes_nothing() -> None:
    session = said("a", "b")
    session.take()
    session.acknowledge(2)
    session.acknowledge(1)
    assert session.unheard == 0


def test_hearing_what_was_not_sent_breaks_the_session() -> None:
    session = said("a", "b")
    session.take(max_items=1)
    with pytest.raises(SessionBroken, match="2 was heard before it was sent"):
        session.acknowledge(2)
    with pytest.raises(SessionBroken):
        session.resume(2)


def test_forgetting_what_was_heard_breaks_the_session() -> None:
    session = said("a", "b")
    session.take()
    session.acknowledge(2)
    with pytest.raises(SessionBroken, match="2 was heard once, and now only those up to 1"):
        session.resume(1)


def test_a_batch_is_bounded_but_holds_at_least_one() -> None:
    session: Session[str] = Session()
    for size in (50, 5000, 60, 30, 20):
        session.say(str(size), size)
    batches = []
    while session.has_more:
        batches.append(session.take(max_bytes=100)[1])
    assert batches == [["50"], ["5000"], ["60", "30"], ["20"]]


def test_what_is_kept_is_bounded() -> None:
    session: Session[str] = Session(max_kept=2)
    session.say("a")
    session.say("b")
    with pytest.raises(SessionBroken, match="no more can be kept"):
        session.say("c")


@given(st.lists(st.sampled_from(["say", "send", "ack", "break", "break late"]), max_size=80))
def test_whatever_streams_do_all_is_heard_once_and_in_order(steps: list[str]) -> None:
    """One end says numbers to the other, over streams that lose their tail when they break."""
    here: Session[int] = Session()
    there: Session[str] = Session()
    heard: list[int] = []
    count = 0
    in_flight: list[tuple[int, list[int]]] = []

    def deliver() -> None:
        while in_flight:
            heard.extend(there.hear(*in_flight.pop(0)))

    def begin_anew() -> None:
        in_flight.clear()
        here.resume(there.heard)

    for step in [*steps, "break", "send"]:
        if step == "say":
            count += 1
            here.say(count)
        elif step == "send":
            while here.has_more:
                in_flight.append(here.take(max_items=3))
            while len(in_flight) > 1:  # the last is still on its way
                heard.extend(there.hear(*in_flight.pop(0)))
        elif step == "ack":
            deliver()
            here.acknowledge(there.heard)
        elif step == "break":
            begin_anew()
        elif step == "break late":  # all has arrived, but its acknowledgement was lost
            deliver()
            begin_anew()
    deliver()
    assert heard == list(range(1, count + 1))


def test_it_is_known_how_much_waits_to_be_heard() -> None:
    session: Session[str] = Session()
    for size in (10, 20, 30):
        session.say("x", size)
    session.take(max_items=2)
    assert session.unheard_bytes == 60
    session.acknowledge(1)
    assert session.unheard_bytes == 50
    session.resume(2)
    assert session.unheard_bytes == 30
