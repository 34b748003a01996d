"""The closing summary tells what was adapted, and names hot keys."""

from __future__ import annotations

from gristmill.cli.progress import summary_lines
from gristmill.runtime.coordinator.tally import summary_of
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState


def view_of(**more: object) -> JobView:
    return JobView("j", "join", JobState.SUCCEEDED, 1.0, (), **more)  # type: ignore[arg-type]


def test_hot_keys_and_adaptations_are_shown() -> None:
    view = view_of(hot_keys=(("'the'", 1_234_567), ("'of'", 20_000)), adaptations=("one", "two"))
    lines = [(line.label, line.text) for line in summary_lines(view)]
    assert lines == [
        ("hot keys", "'the' 1,234,567 rows, 'of' 20,000 rows"),
        ("adapted", "one"),
        ("adapted", "two"),
    ]


def test_of_many_adaptations_the_first_are_shown() -> None:
    lines = summary_lines(view_of(adaptations=tuple(map(str, range(9)))))
    assert [line.text for line in lines[-2:]] == ["4", "… and 4 more"]


def test_the_summary_as_json_has_them_only_if_there_are_any() -> None:
    view = view_of(hot_keys=(("'the'", 12_345),), adaptations=("one",))
    summary = summary_of(view, None)
    assert (summary["hot_keys"], summary["adaptations"]) == ([["'the'", 12_345]], ["one"])
    assert not {"hot_keys", "adaptations"} & summary_of(view_of(), None).keys()
    assert JobView.from_json(view.to_json()) == view
