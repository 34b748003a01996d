"""How much memory the executors take to group and to sort six times the data that their budget holds.

    python bench/dataset_memory.py [--mb 1650] [--memory-mib 256]

The input of the grouping has one key in every other line and as many keys again in the others; every value is
shuffled. The lines that are sorted are of 100 bytes. Both results are checked. Memory is counted as in bench/memory.py.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import data
import measure
from memory import Sampler, check
from results import conclude, digest, mib, parts, table, verdict
from settings import EXECUTORS, dataset

MB = 1_650  # 6.1 times the budget
MEMORY_MIB = 256
SMOKE_MB = 2
ALLOWED = 1.25
_LINE_BYTES = 100  # of a line to sort, and of a key's two lines to group
_SAMPLE_SECONDS = 0.05


def section(size_mb: int = MB, memory_mib: int = MEMORY_MIB) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    count = size_mb * data.MB // _LINE_BYTES
    grouped, sortable = data.hot_key_text(count), data.sortable(count)
    output = data.folder() / "out" / "dataset-memory"
    output.parent.mkdir(exist_ok=True)
    limit = int(memory_mib * ALLOWED) << 20
    rows = [["", "seconds", "executors, at the highest", "beyond idle", "the script's own process"]]
    worst = 0
    try:
        idle = _run(["idle"], memory_mib)[1].idle
        for name, source in (("grouping", grouped), ("sort", sortable)):
            done, sampler = _run([name, source, output], memory_mib)
            if wrong := check(output, count) if name == "grouping" else check_order(output, source):
                raise RuntimeError(wrong)
            shutil.rmtree(output)
            beyond = sampler.peak - idle
            worst = max(worst, beyond)
            rows.append([name, f"{done.seconds:.0f}", *map(mib, (sampler.peak, beyond, sampler.command_peak))])
    except RuntimeError as error:
        return "", f"Memory of datasets: {error}"
    finally:
        shutil.rmtree(output, ignore_errors=True)
    body = [
        "## Memory of datasets",
        f"{data.size_bytes(grouped) / data.MB:,.0f} MB of text grouped by `group_by_key`, and as much sorted by "
        f"`sort_by`, with a budget of {memory_mib} MiB and {EXECUTORS} executors, which take {mib(idle)} idle. The "
        f"grouping has {count:,} distinct keys, and one key with half of the {2 * count:,} values. The results are "
        "checked.",
        table(rows),
        f"At most {mib(worst)} beyond idle. Limit {mib(limit)} ({verdict(worst <= limit)}).",
    ]
    return "\n\n".join(body), ""


def check_order(output: Path, source: Path) -> str:
    """What is wrong with a sort of these lines by their keys; empty if nothing is."""
    if digest(output) != digest(source):
        return "the sorted lines are not those of the input"
    last = b""
    for key in _keys(output):
        if key < last:
            return f"{last!r} comes before {key!r}"
        last = key
    return ""


def _keys(output: Path) -> Iterator[bytes]:
    for part in parts(output):
        with part.open("rb") as lines:
            yield from (line[: data.KEY_BYTES] for line in lines)


def _run(arguments: list[str | Path], memory_mib: int) -> tuple[measure.Run, Sampler]:
    name, *files = arguments
    sampler = Sampler()
    done = measure.run(
        [*dataset(str(name)), *files, f"{memory_mib}MiB"],
        {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")},
        sample_seconds=_SAMPLE_SECONDS,
        observe=sampler,
    )
    if done.error:
        raise RuntimeError(done.error)
    return done, sampler


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=MB)
    parser.add_argument("--memory-mib", type=int, default=MEMORY_MIB)
    given = parser.parse_args()
    conclude("dataset_memory", *section(given.mb, given.memory_mib), write=given.mb == MB)
