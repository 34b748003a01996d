"""What the REST interface answers, field by field: the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gristmill.runtime.views import WorkerView

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
AttemptState = Literal["running", "done", "failed", "lost", "cancelled", "superseded"]
Counters = dict[str, dict[str, int]]


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="The kind, such as `urn:gristmill:error:OutputExists`.")
    title: str = Field(description="The kind in words.")
    status: int
    detail: str = Field(description="What happened, where, and what to do.")
    fields: dict[str, str] | None = Field(default=None, description="What is wrong with the request, by field.")
    error: dict[str, Any] | None = Field(default=None, description="The error, as our own clients read it.")
    missing: list[str] | None = Field(default=None, description="Blobs that must be uploaded first.")
    taken_by: str | None = Field(default=None, description="The job that the Idempotency-Key belongs to.")
    reasons: list[str] | None = Field(default=None, description="Why the server is not ready.")


class Frame(BaseModel):
    """A line of somebody's code."""

    file: str
    line: int
    function: str
    source: str = ""


class Failure(BaseModel):
    """Why an attempt failed, or a job."""

    error: str = Field(description="The kind, such as `UserCodeError`.")
    exception: str = Field(default="", description="The class of what the code raised.")
    message: str
    frames: list[Frame] = Field(default=[], description="The user's own lines, the innermost first.")
    record: str | None = Field(default=None, description="The record that it was about.")
    details: dict[str, Any] = {}


class JobError(BaseModel):
    """Why a job has no output."""

    type: str
    message: str = Field(description="As text: the user's own line first.")
    report: dict[str, Any] | None = None
    job_folder: str = ""
    failure: Failure | None = Field(default=None, description="The same in parts, if it was the job's code or a task.")


class Phase(BaseModel):
    """The map side of a job, or its reduce side: all stages that read input, or that read a shuffle."""

    tasks: int
    done: int
    running: int
    percent: float = Field(description="Of its work, by bytes where these are known; 0 to 100.")


class JobRow(BaseModel):
    """A job in a list."""

    id: str
    name: str
    user: str = Field(description="Who submitted it; empty when that is not known.")
    state: State
    output: str | None
    submitted: float = Field(description="Seconds since the epoch.")
    begun: float | None = Field(default=None, description="When its turn came.")
    ended: float | None = None
    seconds: float = Field(
        description="How long it runs, or ran, from when its turn came: with the loading of its code."
    )
    percent: float = Field(default=0.0, description="Of all its work, 0 to 100.")
    priority: int = 0
    late: bool = Field(default=False, description="It has outlived its deadline.")
    note: str = Field(default="", description="Why nothing happens, or what else should be known.")
    error: str = Field(default="", description="The first words of why it failed.")


class JobPage(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobRow]
    next: str | None = Field(default=None, description="Ask again with `before` set to this for the jobs before them.")


class JobDetail(BaseModel):
    """A job."""

    id: str
    name: str
    user: str
    state: State
    priority: int
    output: str | None = Field(description="Where the result is, or is to appear.")
    format: str
    submitted: float = Field(description="Seconds since the epoch.")
    deadline: float | None = Field(default=None, description="When it is late, in seconds since the epoch.")
    late: bool = False
    begun: float | None = Field(default=None, description="When its turn came.")
    ended: float | None = None
    inputs: list[str] = Field(
        default=[], description="What it reads, as that was named, a hundred at most; without secrets in URIs."
    )
    more_inputs: int = Field(default=0, description="How many more inputs there are.")
    options: dict[str, Any] = Field(
        default={}, description="Those of `Options` that are not the usual ones, and `reducers`. Bytes, seconds."
    )
    params: dict[str, Any] = Field(
        default={}, description="What the job finds in `self.params`; of passwords and tokens only their names."
    )
    queue_place: int | None = Field(default=None, description="How many jobs wait before it, while it waits.")
    note: str = Field(default="", description="Why nothing happens, or what else should be known.")
    percent: float = Field(description="Of all its work, 0 to 100.")
    map: Phase
    reduce: Phase
    records_in: int
    records_out: int
    bytes_in: int
    shuffle_bytes: int
    records_per_second: float
    bytes_per_second: float
    seconds: float = Field(description="As in the list: from when its turn came.")
    seconds_left: float | None = Field(default=None, description="An estimate, once there is something to go by.")
    counters: Counters
    summary: dict[str, Any] = Field(description="What `gristmill status --json` prints.")
    view: dict[str, Any] = Field(description="Stage by stage, as our own clients read it.")
    error: JobError | None = None


class Submitted(BaseModel):
    """A job is here to stay."""

    id: str


class TaskRow(BaseModel):
    """A task."""

    id: str = Field(description="`STAGE-INDEX`.")
    stage: int
    index: int
    stage_name: str
    state: Literal["waiting", "running", "done", "failed"]
    attempts: int
    worker: str = ""
    began: float | None = None
    ended: float | None = None
    records_in: int = 0
    bytes_in: int = 0
    records_out: int = 0
    bytes_out: int = 0


class TaskPage(BaseModel):
    """Tasks, by stage and index."""

    tasks: list[TaskRow]
    total: int = Field(description="How many there are of what was asked for.")
    next: int | None = Field(default=None, description="Ask again with `after` set to this for the tasks after them.")


class AttemptRow(BaseModel):
    """An attempt at a task."""

    name: str = Field(description="As its log is named.")
    task: str
    number: int
    epoch: int
    state: AttemptState
    speculative: bool = False
    worker: str = ""
    slot: str = ""
    launched: float | None = None
    began: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    records_in: int = 0
    bytes_in: int = 0
    records_out: int = 0
    bytes_out: int = 0
    spilled_bytes: int = 0
    bad_records: int = 0
    failure: Failure | None = None


class Attempts(BaseModel):
    """The attempts at one task, in the order of their ends; what still runs comes last."""

    attempts: list[AttemptRow]


class Log(BaseModel):
    """What an attempt printed, to stdout and to stderr."""

    attempt: str
    text: str
    size_bytes: int = Field(default=0, description="How much is kept of it.")


class Logs(BaseModel):
    """What the attempts of a job printed."""

    logs: list[Log]
    left_out: int = Field(default=0, description="So many logs are not in this answer: ask for them by `attempt`.")


class Workers(BaseModel):
    """The workers of a server."""

    workers: list[WorkerView]


class Builtin(BaseModel):
    """A job that comes with Gristmill."""

    name: str
    description: str
    params: dict[str, str]


class Builtins(BaseModel):
    """The jobs that come with Gristmill."""

    jobs: list[Builtin]


class Alive(BaseModel):
    """The server lives."""

    status: Literal["ok"]


class Ready(BaseModel):
    """The server can take jobs."""

    status: Literal["ready"]


class Blob(BaseModel):
    """A blob is here."""

    sha256: str


class SessionBegun(BaseModel):
    """A session."""

    id: str
    lease_seconds: float


class SessionRenewed(BaseModel):
    """Its client was heard."""

    lease_seconds: float


class KeptBlock(BaseModel):
    """A block that a session keeps."""

    rows: int
    length: int
    crc32: int


class KeptBlocks(BaseModel):
    """What a session keeps under a name."""

    blocks: list[KeptBlock]


class Draining(BaseModel):
    """A worker takes no new work."""

    worker: str


class LogPart(BaseModel):
    """A part of what an attempt printed."""

    attempt: str
    text: str
    after: int
    next: int = Field(description="Ask again with `after` set to this for what comes behind it.")
    over: bool = Field(description="Nothing will come behind what is kept now: the attempt does not run any more.")
