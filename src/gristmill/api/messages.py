"""What a client and a server say to each other, as values that ``json.dumps`` takes, and back.

Code is not in here: a submission names it by its SHA-256, and its bytes are sent as blobs, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gristmill.config import PYTHON_VERSION, VERSION, JobOptions
from gristmill.config import VERSION_HEADERS as VERSION_HEADERS
from gristmill.errors import UsageError, VersionMismatch
from gristmill.runtime.views import JobView

if TYPE_CHECKING:
    from gristmill.api.prepare import Submission

SUBMISSION_TYPE = "application/vnd.gristmill.job+json"
"""The content type of a :class:`SubmitRequest`: others send jobs in other forms."""
MAX_SEEN_FILES = 1000

# What only the machine that runs a job can say; and the server's own affair.
_NOT_SENT = (
    "on", "executors", "memory_bytes", "max_processes", "max_file_bytes",
    "data_dir", "resume", "py_files", "token_file", "place_timeout_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class SeenFile:
    """An input as the client sees it, so that another file of the same name is noticed."""

    path: str
    size_bytes: int
    changed: float  # seconds since the epoch


@dataclass(frozen=True)
class SubmitRequest:
    """A job, handed to a server.

    Attributes:
        submission: the job; its ``code`` is empty.
        code: the SHA-256 of the code. What it is made of is among ``submission.bundles``.
        seen: some of the inputs as the client sees them; empty if it sees none of them.
        seen_files: how many it sees.
        probe: a file that the client made beside the output, which the server must see; empty if it sees no such place.
    """

    submission: Submission
    code: str
    seen: tuple[SeenFile, ...] = ()
    seen_files: int = 0
    probe: str = ""

    def digest(self) -> str:
        """Tells the job that is asked for from others. How the client sees its files is not part of it."""
        asked = replace(self, seen=(), seen_files=0, probe="").to_json()
        return sha256(json.dumps(asked, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        from gristmill.plan.encoding import inputs_to_json, plan_to_json

        job = self.submission
        return {
            "name": job.name,
            "code": self.code,
            "plan": plan_to_json(job.plan),
            "inputs": inputs_to_json(job.inputs),
            "base": job.base,
            "output": job.output,
            "options": _options_to_json(job.options),
            "mode": job.mode,
            "origins": list(job.origins),
            "bundles": list(job.bundles),
            "broadcasts": list(job.broadcasts),
            "driver": job.driver,
            "sources": dict(job.sources),
            "seen": [asdict(file) for file in self.seen],
            "seen_files": self.seen_files,
            "probe": self.probe,
        }

    @classmethod
    def from_json(cls, data: Any) -> SubmitRequest:
        """The inverse of :meth:`to_json`.

        Raises:
            UsageError: it is not such a request.
        """
        from gristmill.api.prepare import Submission
        from gristmill.plan.encoding import inputs_from_json, plan_from_json

        try:
            submission = Submission(
                name=_text(data["name"]),
                code=b"",
                plan=plan_from_json(data["plan"]),
                inputs=inputs_from_json(data["inputs"]),
                base=_text(data.get("base", "")),
                output=None if data.get("output") is None else _text(data["output"]),
                options=JobOptions(**{str(name): value for name, value in data["options"].items()}),
                mode=_text(data.get("mode", "error")),
                origins=tuple(map(_text, data.get("origins", ()))),
                bundles=tuple(map(_text, data.get("bundles", ()))),
                broadcasts=tuple(map(_text, data.get("broadcasts", ()))),
                driver=data.get("driver") is True,
                sources={_text(name): _text(digest) for name, digest in data.get("sources", {}).items()},
            )
            seen = tuple(_seen(file) for file in data.get("seen", ()))
            code, probe = _text(data["code"]), _text(data.get("probe", ""))
            return cls(submission, code, seen, int(data.get("seen_files", 0)), probe)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            raise UsageError(f"This is not a job: {type(error).__name__}: {str(error)[:500]}.") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _seen(data: Any) -> SeenFile:
    return SeenFile(_text(data["path"]), int(data["size_bytes"]), float(data["changed"]))


def _options_to_json(options: JobOptions) -> dict[str, Any]:
    named = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in _NOT_SENT}
    # The parameters themselves are in the code. As text they are for people.
    return {**named, "params": {str(key): _plain(value) for key, value in options.params.items()}}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def server_options(options: JobOptions, data_dir: Path) -> JobOptions:
    """Options that a client sent, as the server uses them: what is its own affair filled in."""
    return replace(options, on="local", executors=1, memory_bytes=None, data_dir=data_dir, resume=False, py_files=())


_MORE = (
    "user", "priority", "deadline", "late", "queue_place", "ended", "begun",
    "inputs", "more_inputs", "options", "params",
)  # fmt: skip


@dataclass(frozen=True)
class JobStatus:
    """A job as its server tells of it.

    Attributes:
        view: how it stands.
        output: where its result is, or is to appear.
        format: what the output holds.
        submitted: seconds since the epoch; 0 when that is not known.
        error: why there is no output, once it is over; in the form of ``outcome.error_to_json``.
        user: who submitted it; empty when that is not known.
        priority: over other jobs'.
        deadline: when it is late, in seconds since the epoch; None: never.
        late: it has outlived that.
        queue_place: how many jobs wait before it, while it waits itself.
        ended: when it ended, in seconds since the epoch; None: it has not, or that is not known.
        begun: when its turn came, likewise.
        inputs: what it reads, as that was named: see ``api.asked``, as for what follows.
        more_inputs: how many more there are.
        options: what was asked for.
        params: likewise.
    """

    view: JobView
    output: str | None
    format: str = "text"
    submitted: float = 0.0
    error: Mapping[str, Any] | None = None
    user: str = ""
    priority: int = 0
    deadline: float | None = None
    late: bool = False
    queue_place: int | None = None
    ended: float | None = None
    begun: float | None = None
    inputs: Sequence[str] = ()
    more_inputs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.view.state.is_final

    def summary(self) -> dict[str, Any]:
        """The job in figures, as ``--json`` prints them."""
        from gristmill.runtime.coordinator.tally import summary_of

        return summary_of(self.view, self.output)

    def to_json(self) -> dict[str, Any]:
        """As values that ``json.dumps`` takes."""
        return {
            "id": self.view.job,
            "name": self.view.name,
            "state": self.view.state.value,
            "output": self.output,
            "format": self.format,
            "submitted": self.submitted,
            "summary": self.summary(),
            "view": self.view.to_json(),
            "error": None if self.error is None else dict(self.error),
            **{name: getattr(self, name) for name in _MORE},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobStatus:
        """The inverse of :meth:`to_json`."""
        return cls(
            view=JobView.from_json(data["view"]),
            output=data["output"],
            format=data["format"],
            submitted=data["submitted"],
            error=data["error"],
            **{name: data[name] for name in _MORE if name in data},
        )


def check_versions(version: str, python: str, whose: str) -> None:
    """Refuse another Gristmill or another minor version of Python than ours: code could not travel between the two.

    Args:
        version: the other's version of Gristmill.
        python: the other's version of Python, such as ``3.11``.
        whose: who the other is, such as ``the client``.

    Raises:
        VersionMismatch: they differ; both are named.
    """
    if (version, python) != (VERSION, PYTHON_VERSION):
        raise VersionMismatch(
            f"The server runs Gristmill {VERSION} on Python {PYTHON_VERSION}, and {whose} runs Gristmill "
            f"{version or 'unknown'} on Python {python or 'unknown'}. Both must be the same: code travels between them."
        )
