"""What others than our own clients ask for: a job by its name or by an uploaded file, in words that curl can send.

A wish is checked here as far as that can be done without its code, which is none of the server's to load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gristmill.api.builtin import BUILTIN
from gristmill.api.mapreduce import parse_options
from gristmill.api.places import shown
from gristmill.config import JobOptions, parse_duration
from gristmill.errors import UsageError
from gristmill.service.submission.words import why

MAX_TASKS = 100_000
"""Of reduce tasks; and so of partitions of a stage."""
_LARGE = 1_000_000_000
_MAX_ODD = 100  # fields that there are not
_MAX_WRONG = 20  # fields of which is said what is wrong
_PLACE = 300  # characters of a name or a reason
COMMANDS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""What in a name could command a terminal, or turn the way that text runs; for regular expressions."""
_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=rf"^[^{COMMANDS}]+$")]
_Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
_Function = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
_Size = Annotated[str, Field(max_length=40, examples=["16MiB"])] | Annotated[int, Field(ge=1, le=2**60)]
_Seconds = Annotated[float, Field(gt=0, le=_LARGE)]
_Duration = Annotated[str, Field(max_length=40, examples=["10m"])] | _Seconds
_Value = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
    | Annotated[float, Field(strict=True, allow_inf_nan=False)]
    | Annotated[str, Field(max_length=100_000)]
    | None
)
_Argument = Annotated[str, Field(max_length=10_000)]
_MAX_PARAMS = 1000
_Params = Annotated[dict[Annotated[str, Field(max_length=200)], _Value], Field(max_length=_MAX_PARAMS)]
_SPEC = r"^[A-Za-z_][\w.-]*(:[A-Za-z_]\w*)?$"
_Spec = Annotated[str, Field(max_length=500, pattern=_SPEC, examples=["wordcount", "package.module:Name"])]
_Format = Literal["text", "whole", "csv", "jsonl", "parquet", "orc", "avro"]
_OutputFormat = Literal["text", "csv", "jsonl", "parquet", "orc", "avro"]


class Options(BaseModel):
    """How a job is to run: the options of ``gristmill run``, with the same meanings and defaults."""

    model_config = ConfigDict(extra="forbid")

    reducers: Annotated[int, Field(ge=1, le=MAX_TASKS)] | None = None
    split_size: _Size | None = None
    input_format: _Format | None = None
    output_format: _OutputFormat | None = None
    overwrite: bool = False
    no_combiner: bool = False
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 4
    max_bad_records: Annotated[int, Field(ge=0, le=_LARGE)] = 0
    max_record_size: _Size | None = None
    task_timeout: _Duration | None = None
    task_cpus: Annotated[float, Field(gt=0, le=10_000)] | None = None
    task_memory: _Size | None = None
    speculation: bool = True
    shuffle_dir: _Path | None = None


class JobWish(BaseModel):
    """A job that is asked for."""

    model_config = ConfigDict(extra="forbid")

    job: _Spec | None = Field(
        default=None,
        description="A built-in job, or `package.module:Name` of a module that the workers have. With an uploaded "
        "file: the class in it, if there are several, or the module of a zip file.",
    )
    inputs: list[_Path] = Field(
        default_factory=list,
        max_length=10_000,
        description="Files, directories, globs and URIs, as the workers see them. Scripts alone have none.",
    )
    output: _Path | None = Field(
        default=None,
        description="Where the result goes, as the workers see it. Must not exist. Scripts alone have none.",
    )
    arguments: list[_Argument] = Field(
        default_factory=list, max_length=1000, description="What an uploaded script of datasets finds in `sys.argv`."
    )
    driver_attempts: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, description="How often a script is run until it ends well. What it did before is done again."
    )
    params: _Params = Field(default_factory=dict, description="What the job finds in `self.params`.")
    options: Options = Field(default_factory=Options)
    mapper: _Function | None = Field(default=None, description="A function of the module, if it is not `mapper`.")
    combiner: _Function | None = Field(default=None, description="A function of the module, if it is not `combiner`.")
    reducer: _Function | None = Field(default=None, description="A function of the module, if it is not `reducer`.")
    name: _Name | None = Field(default=None, description="For people; else the job's own.")
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = Field(
        default=0, description="Jobs of a higher one go first."
    )
    deadline: _Duration | None = Field(
        default=None, description="A job that is not over by then is reported as late, and goes on."
    )

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of those that come with Gristmill."""
        return self.job in BUILTIN

    @property
    def functions(self) -> dict[str, str]:
        """The functions that are named, by their roles."""
        named = {"mapper": self.mapper, "combiner": self.combiner, "reducer": self.reducer}
        return {role: name for role, name in named.items() if name}

    @property
    def is_script(self) -> bool:
        """Whether it is one of a script of datasets, if a file of code came along: that names its data itself."""
        return not self.inputs and self.output is None

    @property
    def place(self) -> str:
        """Where the result goes; empty if it is not named."""
        return self.output or ""

    def digest(self, code: str = "") -> str:
        """Tells what is asked for from all else; ``code`` is the SHA-256 of the file that came along."""
        return sha256(json.dumps([self.model_dump(), code], sort_keys=True).encode()).hexdigest()

    def job_options(self) -> JobOptions:
        """The options in their parsed form.

        Raises:
            UsageError: one of them is not possible.
        """
        named = {name: value for name, value in self.options.model_dump().items() if value is not None}
        combiner = not named.pop("no_combiner")
        options = parse_options({**named, "combiner": combiner, "priority": self.priority, "params": self.params})  # type: ignore[typeddict-item]
        for name in ("split_bytes", "max_record_bytes", "task_memory_bytes"):
            if (getattr(options, name) or 0) > 2**60:
                raise UsageError(f"{name} is more than any machine has.")
        if (options.task_timeout_seconds or 0) > _LARGE:
            raise UsageError("task_timeout is longer than anybody waits.")
        deadline = None if self.deadline is None else parse_duration(self.deadline)
        if deadline is not None and deadline > _LARGE:
            raise UsageError("The deadline is further away than anybody waits.")
        return replace(options, deadline_seconds=deadline)

    def session_options(self) -> dict[str, Any]:
        """The options of the session that a script gets; those that were not given are left out."""
        given = self.options.model_dump(exclude_defaults=True)
        return {**given, **({"priority": self.priority} if self.priority else {})}

    def check_job(self) -> None:
        """See that this can be a job, and not a script.

        Raises:
            WrongWish: it cannot.
        """
        wrong = {
            "inputs": "" if self.inputs else "Name at least one.",
            "output": "" if self.output else "Name one.",
            "arguments": _OF_SCRIPTS if self.arguments else "",
            "driver_attempts": _OF_SCRIPTS if self.driver_attempts != 1 else "",
        }
        if any(wrong.values()):
            raise WrongWish({field: why for field, why in wrong.items() if why})

    def check_script(self) -> None:
        """See that nothing is wanted of a script that only jobs know.

        Raises:
            WrongWish: something is.
        """
        options = {f"options.{name}" for name in self.options.model_dump(exclude_defaults=True)}
        given = {"params"} if self.params else set()
        wrong = {name: _NOT_FOR_SCRIPTS[name] for name in sorted((options | given) & _NOT_FOR_SCRIPTS.keys())}
        wrong |= dict.fromkeys(self.functions, "A script of datasets has no such function: to run a job, name inputs "
                               "and an output.")  # fmt: skip
        if wrong:
            raise WrongWish(wrong)


_OF_SCRIPTS = "This is for scripts of datasets: an uploaded file, without inputs and output."
_SAYS_ITSELF = (
    "A script of datasets says itself what it writes, where and how. To run a job, name inputs and an output."
)
_NOT_FOR_SCRIPTS = {
    "options.overwrite": _SAYS_ITSELF,
    "options.output_format": _SAYS_ITSELF,
    "options.input_format": "A script of datasets names formats by its read_ functions.",
    "options.no_combiner": "Datasets have folds instead of combiners.",
    "options.max_bad_records": "A script of datasets sets bad records aside itself, in flat_map().",
    "params": "What a script of datasets is told goes into arguments.",
}


class WrongWish(UsageError):
    """A request that is not one. Never seen but as a problem document.

    Attributes:
        fields: what is wrong, by the place of each field.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self.fields = dict(fields)
        super().__init__("; ".join(f"{name}: {why}" for name, why in fields.items()))


def wish_of(data: Any) -> JobWish:
    """The wish that a JSON value is.

    Raises:
        WrongWish: it is none; each wrong field is named.
    """
    _check_counts(data)
    try:
        wish = JobWish.model_validate(data)
    except ValidationError as error:
        raise WrongWish(_fields_of(error)) from None
    _check_texts(wish.model_dump())
    _check_places(wish)
    return wish


def wish_of_form(fields: Sequence[tuple[str, str]]) -> JobWish:
    """The wish that the fields of a form are: ``request`` holds all of it as JSON, or each is a field of its own.

    There may be several ``inputs`` and ``arguments``, and several ``set`` of the form ``KEY=VALUE``; options are fields
    like the others.

    Raises:
        WrongWish: it is none; each wrong field is named.
    """
    data: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in fields:
        if name == "request":
            data = {**_json_object(name, value), **data}
        elif name in ("inputs", "input"):
            _own(data, "inputs", list).append(value)
        elif name in ("arguments", "argument"):
            _own(data, "arguments", list).append(value)
        elif name == "set":
            key, equals, text = value.partition("=")
            if not equals:
                raise WrongWish({"set": "A parameter is given as KEY=VALUE."})
            _own(data, "params", dict)[key] = text
        elif name in ("params", "options"):
            data[name] = _json_object(name, value)
        elif name in Options.model_fields:
            options[name] = value
        else:
            data[name] = value
    if options:
        _own(data, "options", dict).update(options)
    return wish_of(data)


def _own(data: dict[str, Any], name: str, kind: type[Any]) -> Any:
    """A field that others are added to."""
    found = data.setdefault(name, kind())
    if not isinstance(found, kind):
        raise WrongWish({name: "In the request it is something else than in the form's field of that name."})
    return found


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongWish({name: f"This is not JSON: {error}."}) from None
    if not isinstance(found, dict):
        raise WrongWish({name: "This is not an object."})
    return found


def _check_counts(data: Any) -> None:
    """See that there are no more fields than are looked at: for each wrong one its error takes time and room."""
    if not isinstance(data, dict):
        return
    for place, found, most in (
        ("request", data, len(JobWish.model_fields)),
        ("options", data.get("options"), len(Options.model_fields)),
        ("params", data.get("params"), _MAX_PARAMS),
    ):
        if isinstance(found, dict) and len(found) > most + _MAX_ODD:
            raise WrongWish({place: f"It has {len(found):,} fields: there are at most {most:,}."})


_FIELDS = {"": (*JobWish.model_fields, *Options.model_fields), "options": tuple(Options.model_fields)}


def _fields_of(error: ValidationError) -> dict[str, str]:
    """What is wrong, by field; of a field that may be of several kinds, each kind says why not."""
    found: dict[str, list[str]] = {}
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part)[:_PLACE] for part in one["loc"] if not _KIND.search(str(part))) or "request"
        if place not in found and len(found) == _MAX_WRONG:
            break
        found.setdefault(place, []).append(why(one, _FIELDS)[:_PLACE])
    return {place: " Or: ".join(dict.fromkeys(words[:_MAX_WRONG])) for place, words in found.items()}


_KIND = re.compile(r"^constrained-|^(str|int|float|bool|none)$|\[")


def _check_texts(value: Any, place: str = "") -> None:
    """See that all text can be written anywhere: JSON has escapes for what no encoding has."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WrongWish({place: "This text has half a character in it (a surrogate)."}) from None
        if "\x00" in value:
            raise WrongWish({place: "This text has a NUL in it."})
    elif isinstance(value, Mapping):
        for name, one in value.items():
            _check_texts(name, place)
            _check_texts(one, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            _check_texts(one, f"{place}.{number}")


def _check_places(wish: JobWish) -> None:
    """See that paths do not depend on the folder that some process is in, and that a glob does not lead everywhere."""
    named = {f"inputs.{n}": path for n, path in enumerate(wish.inputs)}
    if wish.output is not None:
        named["output"] = wish.output
    if wish.options.shuffle_dir:
        named["options.shuffle_dir"] = wish.options.shuffle_dir
    for field, path in named.items():
        if not path.startswith("/") and "://" not in path:
            raise WrongWish(
                {field: f"{shown(path)!r} is relative. Name an absolute path or a URI, as the workers see it."}
            )
        parts = path.split("/")
        if parts.count("**") > 1 or (parts[0] == "" and "**" in parts[:2]):
            raise WrongWish({field: f"{shown(path)!r} leads everywhere: one ** is enough, below some folder."})
