from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sealed(_message.Message):
    __slots__ = ("message", "crc32")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    crc32: int
    def __init__(self, message: _Optional[bytes] = ..., crc32: _Optional[int] = ...) -> None: ...

class FromAgent(_message.Message):
    __slots__ = ("join", "heard", "first", "events", "beat")
    JOIN_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    join: Join
    heard: int
    first: int
    events: _containers.RepeatedCompositeFieldContainer[Event]
    beat: Beat
    def __init__(self, join: _Optional[_Union[Join, _Mapping]] = ..., heard: _Optional[int] = ..., first: _Optional[int] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ...) -> None: ...

class ToAgent(_message.Message):
    __slots__ = ("welcome", "refusal", "heard", "first", "orders", "beat")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    refusal: Refusal
    heard: int
    first: int
    orders: _containers.RepeatedCompositeFieldContainer[Order]
    beat: int
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., heard: _Optional[int] = ..., first: _Optional[int] = ..., orders: _Optional[_Iterable[_Union[Order, _Mapping]]] = ..., beat: _Optional[int] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("session", "resumes", "name", "host", "rack", "python", "version", "machine", "flight", "cpus", "memory_bytes", "kept")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RESUMES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    RACK_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    session: str
    resumes: bool
    name: str
    host: str
    rack: str
    python: str
    version: str
    machine: str
    flight: str
    cpus: float
    memory_bytes: int
    kept: _containers.RepeatedCompositeFieldContainer[Kept]
    def __init__(self, session: _Optional[str] = ..., resumes: _Optional[bool] = ..., name: _Optional[str] = ..., host: _Optional[str] = ..., rack: _Optional[str] = ..., python: _Optional[str] = ..., version: _Optional[str] = ..., machine: _Optional[str] = ..., flight: _Optional[str] = ..., cpus: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., kept: _Optional[_Iterable[_Union[Kept, _Mapping]]] = ...) -> None: ...

class Kept(_message.Message):
    __slots__ = ("job", "paths")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    job: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("worker", "beat_seconds", "lost_seconds", "jobs")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    BEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LOST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    worker: str
    beat_seconds: float
    lost_seconds: float
    jobs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker: _Optional[str] = ..., beat_seconds: _Optional[float] = ..., lost_seconds: _Optional[float] = ..., jobs: _Optional[_Iterable[str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("kind", "reason")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Refusal.Kind]
        FENCED: _ClassVar[Refusal.Kind]
        UNKNOWN: _ClassVar[Refusal.Kind]
        NOT_SHARED: _ClassVar[Refusal.Kind]
        VERSION: _ClassVar[Refusal.Kind]
        DISMISSED: _ClassVar[Refusal.Kind]
    UNSPECIFIED: Refusal.Kind
    FENCED: Refusal.Kind
    UNKNOWN: Refusal.Kind
    NOT_SHARED: Refusal.Kind
    VERSION: Refusal.Kind
    DISMISSED: Refusal.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: Refusal.Kind
    reason: str
    def __init__(self, kind: _Optional[_Union[Refusal.Kind, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("number", "after", "running", "usage")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    number: int
    after: int
    running: _containers.RepeatedCompositeFieldContainer[Running]
    usage: Usage
    def __init__(self, number: _Optional[int] = ..., after: _Optional[int] = ..., running: _Optional[_Iterable[_Union[Running, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("cpu_percent", "used_bytes", "free_bytes", "disk_bytes")
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    used_bytes: int
    free_bytes: int
    disk_bytes: int
    def __init__(self, cpu_percent: _Optional[float] = ..., used_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ...) -> None: ...

class Running(_message.Message):
    __slots__ = ("attempt", "records_in", "bytes_in")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_IN_FIELD_NUMBER: _ClassVar[int]
    BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    attempt: Attempt
    records_in: int
    bytes_in: int
    def __init__(self, attempt: _Optional[_Union[Attempt, _Mapping]] = ..., records_in: _Optional[int] = ..., bytes_in: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("job", "stage", "index", "number")
    JOB_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    job: str
    stage: int
    index: int
    number: int
    def __init__(self, job: _Optional[str] = ..., stage: _Optional[int] = ..., index: _Optional[int] = ..., number: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("slot_up", "slot_down", "done", "failed", "admitted", "blocks_gone", "leaving", "goodbye", "log")
    SLOT_UP_FIELD_NUMBER: _ClassVar[int]
    SLOT_DOWN_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_GONE_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    slot_up: SlotUp
    slot_down: str
    done: Done
    failed: Failed
    admitted: Admitted
    blocks_gone: BlocksGone
    leaving: Leaving
    goodbye: Goodbye
    log: Log
    def __init__(self, slot_up: _Optional[_Union[SlotUp, _Mapping]] = ..., slot_down: _Optional[str] = ..., done: _Optional[_Union[Done, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., admitted: _Optional[_Union[Admitted, _Mapping]] = ..., blocks_gone: _Optional[_Union[BlocksGone, _Mapping]] = ..., leaving: _Optional[_Union[Leaving, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ...) -> None: ...

class SlotUp(_message.Message):
    __slots__ = ("slot", "depth")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    slot: str
    depth: int
    def __init__(self, slot: _Optional[str] = ..., depth: _Optional[int] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("attempt", "result", "log", "log_start")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    LOG_START_FIELD_NUMBER: _ClassVar[int]
    attempt: Attempt
    result: bytes
    log: bytes
    log_start: int
    def __init__(self, attempt: _Optional[_Union[Attempt, _Mapping]] = ..., result: _Optional[bytes] = ..., log: _Optional[bytes] = ..., log_start: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("attempt", "report", "slot_leaves", "log", "log_start")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SLOT_LEAVES_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    LOG_START_FIELD_NUMBER: _ClassVar[int]
    attempt: Attempt
    report: bytes
    slot_leaves: bool
    log: bytes
    log_start: int
    def __init__(self, attempt: _Optional[_Union[Attempt, _Mapping]] = ..., report: _Optional[bytes] = ..., slot_leaves: _Optional[bool] = ..., log: _Optional[bytes] = ..., log_start: _Optional[int] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("attempt", "epoch", "data", "start", "last")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    attempt: Attempt
    epoch: int
    data: bytes
    start: int
    last: bool
    def __init__(self, attempt: _Optional[_Union[Attempt, _Mapping]] = ..., epoch: _Optional[int] = ..., data: _Optional[bytes] = ..., start: _Optional[int] = ..., last: _Optional[bool] = ...) -> None: ...

class Admitted(_message.Message):
    __slots__ = ("job", "refusal")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    job: str
    refusal: bytes
    def __init__(self, job: _Optional[str] = ..., refusal: _Optional[bytes] = ...) -> None: ...

class BlocksGone(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...

class Leaving(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason", "idle", "failed")
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDLE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    reason: str
    idle: bool
    failed: bool
    def __init__(self, reason: _Optional[str] = ..., idle: _Optional[bool] = ..., failed: _Optional[bool] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("add_job", "add_stage", "launch", "cancel", "free", "drop_job", "recall", "drain", "keep_job")
    ADD_JOB_FIELD_NUMBER: _ClassVar[int]
    ADD_STAGE_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    DROP_JOB_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    KEEP_JOB_FIELD_NUMBER: _ClassVar[int]
    add_job: AddJob
    add_stage: AddStage
    launch: Launch
    cancel: Attempt
    free: Free
    drop_job: str
    recall: Attempt
    drain: Drain
    keep_job: str
    def __init__(self, add_job: _Optional[_Union[AddJob, _Mapping]] = ..., add_stage: _Optional[_Union[AddStage, _Mapping]] = ..., launch: _Optional[_Union[Launch, _Mapping]] = ..., cancel: _Optional[_Union[Attempt, _Mapping]] = ..., free: _Optional[_Union[Free, _Mapping]] = ..., drop_job: _Optional[str] = ..., recall: _Optional[_Union[Attempt, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., keep_job: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class AddJob(_message.Message):
    __slots__ = ("job", "code", "import_paths", "bundles", "staging", "max_bad_records", "max_record_bytes", "task_timeout_seconds", "epoch", "ticket", "shuffle_dir", "inputs", "probe", "probe_text", "session", "session_ticket", "broadcasts", "driver")
    JOB_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    IMPORT_PATHS_FIELD_NUMBER: _ClassVar[int]
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    STAGING_FIELD_NUMBER: _ClassVar[int]
    MAX_BAD_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MAX_RECORD_BYTES_FIELD_NUMBER: _ClassVar[int]
    TASK_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_DIR_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    PROBE_TEXT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_TICKET_FIELD_NUMBER: _ClassVar[int]
    BROADCASTS_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    job: str
    code: str
    import_paths: _containers.RepeatedScalarFieldContainer[str]
    bundles: _containers.RepeatedScalarFieldContainer[str]
    staging: str
    max_bad_records: int
    max_record_bytes: int
    task_timeout_seconds: float
    epoch: int
    ticket: str
    shuffle_dir: str
    inputs: _containers.RepeatedCompositeFieldContainer[File]
    probe: str
    probe_text: str
    session: str
    session_ticket: str
    broadcasts: _containers.RepeatedScalarFieldContainer[str]
    driver: bool
    def __init__(self, job: _Optional[str] = ..., code: _Optional[str] = ..., import_paths: _Optional[_Iterable[str]] = ..., bundles: _Optional[_Iterable[str]] = ..., staging: _Optional[str] = ..., max_bad_records: _Optional[int] = ..., max_record_bytes: _Optional[int] = ..., task_timeout_seconds: _Optional[float] = ..., epoch: _Optional[int] = ..., ticket: _Optional[str] = ..., shuffle_dir: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., probe: _Optional[str] = ..., probe_text: _Optional[str] = ..., session: _Optional[str] = ..., session_ticket: _Optional[str] = ..., broadcasts: _Optional[_Iterable[str]] = ..., driver: _Optional[bool] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class AddStage(_message.Message):
    __slots__ = ("job", "id", "name", "branches", "shuffle_sink", "output_sink", "rows_sink")
    JOB_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_SINK_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SINK_FIELD_NUMBER: _ClassVar[int]
    ROWS_SINK_FIELD_NUMBER: _ClassVar[int]
    job: str
    id: int
    name: str
    branches: _containers.RepeatedCompositeFieldContainer[Branch]
    shuffle_sink: ShuffleSink
    output_sink: OutputSink
    rows_sink: RowsSink
    def __init__(self, job: _Optional[str] = ..., id: _Optional[int] = ..., name: _Optional[str] = ..., branches: _Optional[_Iterable[_Union[Branch, _Mapping]]] = ..., shuffle_sink: _Optional[_Union[ShuffleSink, _Mapping]] = ..., output_sink: _Optional[_Union[OutputSink, _Mapping]] = ..., rows_sink: _Optional[_Union[RowsSink, _Mapping]] = ...) -> None: ...

class Branch(_message.Message):
    __slots__ = ("sources", "operators")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[BranchSource]
    operators: _containers.RepeatedCompositeFieldContainer[Operator]
    def __init__(self, sources: _Optional[_Iterable[_Union[BranchSource, _Mapping]]] = ..., operators: _Optional[_Iterable[_Union[Operator, _Mapping]]] = ...) -> None: ...

class BranchSource(_message.Message):
    __slots__ = ("input", "shuffle")
    INPUT_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_FIELD_NUMBER: _ClassVar[int]
    input: int
    shuffle: ShuffleSource
    def __init__(self, input: _Optional[int] = ..., shuffle: _Optional[_Union[ShuffleSource, _Mapping]] = ...) -> None: ...

class ShuffleSource(_message.Message):
    __slots__ = ("parent", "step", "combine", "reads")
    class Reads(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PARTITION: _ClassVar[ShuffleSource.Reads]
        TASK: _ClassVar[ShuffleSource.Reads]
        ALL: _ClassVar[ShuffleSource.Reads]
    PARTITION: ShuffleSource.Reads
    TASK: ShuffleSource.Reads
    ALL: ShuffleSource.Reads
    PARENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    COMBINE_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    parent: int
    step: int
    combine: bool
    reads: ShuffleSource.Reads
    def __init__(self, parent: _Optional[int] = ..., step: _Optional[int] = ..., combine: _Optional[bool] = ..., reads: _Optional[_Union[ShuffleSource.Reads, str]] = ...) -> None: ...

class Operator(_message.Message):
    __slots__ = ("kind", "step")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MAP: _ClassVar[Operator.Kind]
        REDUCE: _ClassVar[Operator.Kind]
        PROGRAM: _ClassVar[Operator.Kind]
        MERGE: _ClassVar[Operator.Kind]
    MAP: Operator.Kind
    REDUCE: Operator.Kind
    PROGRAM: Operator.Kind
    MERGE: Operator.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    kind: Operator.Kind
    step: int
    def __init__(self, kind: _Optional[_Union[Operator.Kind, str]] = ..., step: _Optional[int] = ...) -> None: ...

class ShuffleSink(_message.Message):
    __slots__ = ("step", "partitions", "combine")
    STEP_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    COMBINE_FIELD_NUMBER: _ClassVar[int]
    step: int
    partitions: int
    combine: bool
    def __init__(self, step: _Optional[int] = ..., partitions: _Optional[int] = ..., combine: _Optional[bool] = ...) -> None: ...

class RowsSink(_message.Message):
    __slots__ = ("kept",)
    KEPT_FIELD_NUMBER: _ClassVar[int]
    kept: str
    def __init__(self, kept: _Optional[str] = ...) -> None: ...

class OutputSink(_message.Message):
    __slots__ = ("format", "letter", "options")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    LETTER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    format: str
    letter: str
    options: _containers.RepeatedCompositeFieldContainer[Option]
    def __init__(self, format: _Optional[str] = ..., letter: _Optional[str] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ...) -> None: ...

class Option(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Launch(_message.Message):
    __slots__ = ("slot", "attempt", "splits", "blocks", "sources", "branch", "counts", "tasks", "part", "before", "turns")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    slot: str
    attempt: Attempt
    splits: _containers.RepeatedCompositeFieldContainer[Split]
    blocks: Blocks
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    branch: int
    counts: _containers.RepeatedScalarFieldContainer[int]
    tasks: int
    part: int
    before: int
    turns: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slot: _Optional[str] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., splits: _Optional[_Iterable[_Union[Split, _Mapping]]] = ..., blocks: _Optional[_Union[Blocks, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ..., branch: _Optional[int] = ..., counts: _Optional[_Iterable[int]] = ..., tasks: _Optional[int] = ..., part: _Optional[int] = ..., before: _Optional[int] = ..., turns: _Optional[_Iterable[int]] = ...) -> None: ...

class Split(_message.Message):
    __slots__ = ("path", "start", "length", "size_bytes", "format", "name", "options")
    PATH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    path: str
    start: int
    length: int
    size_bytes: int
    format: str
    name: str
    options: _containers.RepeatedCompositeFieldContainer[Option]
    def __init__(self, path: _Optional[str] = ..., start: _Optional[int] = ..., length: _Optional[int] = ..., size_bytes: _Optional[int] = ..., format: _Optional[str] = ..., name: _Optional[str] = ..., options: _Optional[_Iterable[_Union[Option, _Mapping]]] = ...) -> None: ...

class Blocks(_message.Message):
    __slots__ = ("path", "worker", "offset", "length", "rows", "crc32")
    PATH_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[str]
    worker: _containers.RepeatedScalarFieldContainer[int]
    offset: _containers.RepeatedScalarFieldContainer[int]
    length: _containers.RepeatedScalarFieldContainer[int]
    rows: _containers.RepeatedScalarFieldContainer[int]
    crc32: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, path: _Optional[_Iterable[str]] = ..., worker: _Optional[_Iterable[int]] = ..., offset: _Optional[_Iterable[int]] = ..., length: _Optional[_Iterable[int]] = ..., rows: _Optional[_Iterable[int]] = ..., crc32: _Optional[_Iterable[int]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("worker", "flight", "machine")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    worker: str
    flight: str
    machine: str
    def __init__(self, worker: _Optional[str] = ..., flight: _Optional[str] = ..., machine: _Optional[str] = ...) -> None: ...

class Free(_message.Message):
    __slots__ = ("paths",)
    PATHS_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, paths: _Optional[_Iterable[str]] = ...) -> None: ...
