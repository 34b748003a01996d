"""What was asked for with a job, for people: its inputs, its options and its parameters. No secrets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from gristmill.config import MAX_RECORD_BYTES, names_secret
from gristmill.errors import plain
from gristmill.storage.uris import shown

if TYPE_CHECKING:
    from gristmill.api.prepare import Submission

_MOST = 100  # inputs, and parameters
_LETTERS = 1000  # of each
_HIDDEN = "…"
# As the options are called where jobs are asked for; as the job has them; and what they are if nobody says.
_OPTIONS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    ("split_size", "split_bytes", (None,)),
    ("input_format", "input_format", (None,)),
    ("output_format", "output_format", (None, "text")),
    ("overwrite", "overwrite", (False,)),
    ("max_attempts", "max_attempts", (4,)),
    ("max_bad_records", "max_bad_records", (0,)),
    ("max_record_size", "max_record_bytes", (None, MAX_RECORD_BYTES)),
    ("task_timeout", "task_timeout_seconds", (None,)),
    ("task_cpus", "task_cpus", (None, 1.0)),
    ("task_memory", "task_memory_bytes", (None, 0)),
    ("speculation", "speculation", (True,)),
)


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        inputs: as they were named, the first hundred; without users, passwords and options of URIs.
        more_inputs: how many more there are.
        options: by the names that they have where jobs are asked for; only those that are not as nobody had said
            anything, and the number of reduce tasks. Sizes are bytes, durations seconds.
        params: what the job finds in ``self.params``. Of those whose names tell of secrets only that they are there.
    """

    inputs: tuple[str, ...] = ()
    more_inputs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, submission: Submission, reducers: int) -> Self:
        """With a job that is about to be prepared, which has so many reduce tasks; 0: none."""
        named = [path for spec in submission.inputs for path in spec.paths]
        options = submission.options
        chosen: dict[str, Any] = {"reducers": reducers} if reducers else {}
        for name, attribute, usual in _OPTIONS:
            if (value := getattr(options, attribute)) not in usual:
                chosen[name] = value
        if not options.combiner:
            chosen["no_combiner"] = True
        if options.shuffle_dir:
            chosen["shuffle_dir"] = _value(options.shuffle_dir)
        return cls(*_some(named), chosen, _params(options.params))

    @classmethod
    def of_wish(cls, wish: Mapping[str, Any]) -> Self:
        """With a job whose code is not loaded yet, as others than our own clients name it."""
        usual = {name: usual for name, _, usual in _OPTIONS}
        options = wish.get("options") or {}
        chosen = {name: _value(value) for name, value in options.items() if value not in usual.get(name, (None, False))}
        return cls(*_some(wish.get("inputs", ())), chosen, _params(wish.get("params") or {}))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; what earlier versions have not noted is empty."""
        inputs = tuple(map(str, data.get("inputs", ())))
        return cls(inputs, int(data.get("more_inputs", 0)), data.get("options", {}), data.get("params", {}))

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return {
            "inputs": list(self.inputs),
            "more_inputs": self.more_inputs,
            "options": dict(self.options),
            "params": dict(self.params),
        }


def _some(names: Iterable[str]) -> tuple[tuple[str, ...], int]:
    found = [_text(str(name)) for name in names]
    return tuple(found[:_MOST]), max(0, len(found) - _MOST)


def _params(params: Mapping[str, object]) -> dict[str, Any]:
    return {
        _text(str(name)): _HIDDEN if names_secret(str(name)) else _value(value)
        for name, value in list(params.items())[:_MOST]
    }


def _value(value: object) -> Any:
    if isinstance(value, (int, float, bool, type(None))):
        return value
    return _text(value if isinstance(value, str) else repr(value))


def _text(text: str) -> str:
    return plain(shown(text))[:_LETTERS]
