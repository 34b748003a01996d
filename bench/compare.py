"""The same work by hand, in Gristmill and in the peers, in turn; and what came of it as a table."""

from __future__ import annotations

import operator
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import data
import measure
from peers import setup
from results import digest, mib, table, verdict
from settings import EXECUTORS, HERE, Settings, by_hand, dataset, gristmill, job

BY_HAND = "by hand"
GRISTMILL = "**Gristmill**"
PEER_TITLES = {"spark": "PySpark RDD", "dask": "Dask bag", "duckdb": "DuckDB", "polars": "Polars"}


@dataclass(frozen=True)
class Claim:
    """One piece of work that Gristmill is to do about as fast as a script by hand.

    Attributes:
        limit: times the script by hand, or times ``against``.
        work: what the script by hand and the peers' are called; as the claim is, unless told.
        chain: Gristmill's side is a script of bench/datasets, not a job.
        reference: what the script by hand is called in the table.
        against: the peer that the limit is about, if it is not the script by hand.
        memory_limit: the most that Gristmill's processes may have together; 0 for no limit.
        read: what of an output is compared.
        same: whether two of them are the same result.
    """

    name: str
    title: str
    limit: float
    goal: float
    peers: tuple[str, ...]
    make_input: Callable[[Settings], Path]
    about: str = ""
    work: str = ""
    chain: bool = False
    reference: str = BY_HAND
    against: str = ""
    memory_limit: int = 0
    read: Callable[[Path], Any] = digest
    same: Callable[[Any, Any], bool] = operator.eq


def _text(settings: Settings) -> Path:
    return data.Texts(settings.text).one_file(settings.size_mb)


def _log(settings: Settings) -> Path:
    return data.access_log(settings.size_mb * data.LINES_A_MB)


def _documents(settings: Settings) -> Path:
    return data.Texts(settings.text).documents(max(1, settings.size_mb * 64 // 500))


CLAIMS = (
    Claim(
        "wordcount", "Word count", 1.25, 1.15, ("spark", "dask", "duckdb", "polars"), _text,
        "A word is a run of letters. By hand, Gristmill, PySpark and Dask call a Python function for each line; "
        "DuckDB and Polars work in columns.",
    ),
    Claim(
        "access_log", "Access log", 1.25, 1.15, ("spark", "dask", "duckdb", "polars"), _log,
        "A regular expression for each line; hits and bytes by path and status. DuckDB and Polars work in columns.",
    ),
    Claim(
        "inverted_index", "Inverted index", 1.5, 1.15, ("spark",), _documents,
        "Which documents each word stands in. No combiner: every pair of word and document is grouped. "
        "By hand is one process.",
    ),
)  # fmt: skip


@dataclass
class Contender:
    """One way to do the work, and how it went."""

    title: str
    command: list[str | Path]
    output: Path
    peer: str = ""
    runs: list[measure.Run] = field(default_factory=list)
    error: str = ""

    def run(self, claim: Claim, expected: Any) -> Any:
        """Run once more, unless it has failed before.

        Args:
            claim: says what of the output is compared.
            expected: the result that outputs must have; None to accept any.

        Returns:
            The result that outputs must have from now on.
        """
        if self.error:
            return expected
        _remove(self.output)
        done = measure.run(self.command, {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")})
        self.error = done.error
        if not self.error:
            found = claim.read(self.output)
            if expected is None:
                expected = found
            elif not claim.same(found, expected):
                self.error = f"its output differs from the one of {claim.reference}"
        _remove(self.output)
        if not self.error:
            self.runs.append(done)
        print(f"  {self.title}: {self.error or f'{done.seconds:.2f} s'}", file=sys.stderr)
        return expected


def compare(claim: Claim, settings: Settings) -> tuple[str, str]:
    """Measure one claim.

    Returns:
        Its section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = claim.make_input(settings)
    wanted = [name for name in claim.peers if name in settings.peers]
    missing = {name: why for name, why in setup.prepare(wanted).items() if why}
    contenders = list(_contenders(claim, source, [name for name in wanted if name not in missing]))
    print(f"{claim.title}: {data.size_bytes(source):,} bytes", file=sys.stderr)
    expected = None
    for _ in range(settings.runs):
        for contender in contenders:
            expected = contender.run(claim, expected)
    reference, engine = contenders[:2]
    notes = [f"{PEER_TITLES[name]}: not run, {why}." for name, why in missing.items()]
    notes += [f"{each.title}: no time, {each.error}." for each in contenders if each.error]
    if broken := reference.error or engine.error:
        return "", f"{claim.title}: {broken}"
    said = f": {reference.runs[0].stdout}" if reference.runs[0].stdout else ""
    body = [
        f"## {claim.title}",
        f"{data.size_bytes(source) / data.MB:,.0f} MB{said}. {claim.about}",
        table([
            ["", "median s", "fastest – slowest", f"× {claim.reference}", "CPU s", "memory"],
            *(_row(each, reference) for each in contenders if each.runs),
        ]),
        f"{_judgement(claim, contenders)} {measure.disturbance(reference.runs + engine.runs)}",
        "\n".join(notes),
    ]  # fmt: skip
    return "\n\n".join(filter(None, body)), ""


def _judgement(claim: Claim, contenders: list[Contender]) -> str:
    """How far Gristmill is from what the claim is about, in sentences."""
    reference, engine = contenders[:2]
    said = f"Gristmill takes {_ratio(engine, reference):.2f} × {claim.reference}."
    compared: Contender | None = reference
    if claim.against:
        compared = next((each for each in contenders if each.peer == claim.against and each.runs), None)
        if compared:
            said += f" It takes {_ratio(engine, compared):.2f} × {compared.title}."
    if compared:
        kept = verdict(_ratio(engine, compared) <= claim.limit)
        said += f" Limit {claim.limit:.3g} ({kept}), goal {claim.goal:.3g}."
    else:
        said += f" Nothing is shown by this: the limit is about {PEER_TITLES[claim.against]}."
    if claim.memory_limit:
        kept = verdict(max(run.peak_bytes for run in engine.runs) <= claim.memory_limit)
        said += f" Limit of memory {mib(claim.memory_limit)} ({kept})."
    return said


def _contenders(claim: Claim, source: Path, peers: list[str]) -> Iterator[Contender]:
    out = data.folder() / "out"
    out.mkdir(exist_ok=True)
    work = claim.work or claim.name

    def output(name: str) -> Path:
        return out / f"{claim.name}-{name}"

    target = output("by-hand")
    yield Contender(claim.reference, [*by_hand(work), source, target], target)
    target = output("gristmill")
    if claim.chain:
        yield Contender(GRISTMILL, [*dataset(work), source, target], target)
    else:
        options = ["--executors", str(EXECUTORS), "-o", target]
        yield Contender(GRISTMILL, gristmill("run", job(work), source, *options), target)
    for name in peers:
        target = output(name)
        title = f"{PEER_TITLES[name]} {setup.version_of(name)}"
        yield Contender(title, [setup.PYTHON, HERE / "peers" / f"{work}_{name}.py", source, target], target, name)


def _row(each: Contender, reference: Contender) -> list[str]:
    seconds = [run.seconds for run in each.runs]
    return [
        each.title,
        f"{statistics.median(seconds):.2f}",
        f"{min(seconds):.2f} – {max(seconds):.2f}",
        f"{_ratio(each, reference):.2f}",
        f"{statistics.median(run.cpu_seconds for run in each.runs):.1f}",
        mib(max(run.peak_bytes for run in each.runs)),
    ]


def _ratio(each: Contender, reference: Contender) -> float:
    """The median of the ratios within a turn: what slowed the machine down for a while slowed down both."""
    pairs = zip(each.runs, reference.runs, strict=False)
    return statistics.median(run.seconds / other.seconds for run, other in pairs)


def _remove(output: Path) -> None:
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
