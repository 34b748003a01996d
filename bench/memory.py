"""How much memory the executors take to group far more than fits in it, one hot key included.

    python bench/memory.py [--keys 20000000] [--memory 512MiB]

The input has so many distinct keys, once each, and one key in every other line: 2 GB for 20 million. Nothing is
combined, every value is shuffled, and the result is checked. What counts is the anonymous and shared memory
(RssAnon + RssShmem) of all processes below the command's own, summed, at its highest, less what the same
executors take while they are idle.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import data
import measure
from results import conclude, mib, parts, table
from settings import EXECUTORS, gristmill, job

KEYS = 20_000_000
MEMORY = "512MiB"
LIMIT_BYTES = 640 << 20
_SAMPLE_SECONDS = 0.05


class Sampler:
    """Takes note of how much memory a run's processes have."""

    def __init__(self) -> None:
        self.executors: list[tuple[int, int]] = []  # (how many processes below the command's own, their bytes)
        self.command_peak = 0

    def __call__(self, pid: int, memory: measure.Memory) -> None:
        """One sample."""
        self.command_peak = max(self.command_peak, memory.get(pid, 0))
        below = [size for each, size in memory.items() if each != pid]
        self.executors.append((len(below), sum(below)))

    @property
    def peak(self) -> int:
        """The most that all executors had together."""
        return max(size for _, size in self.executors)

    @property
    def idle(self) -> int:
        """The least that they had once all of them were there."""
        most = max(count for count, _ in self.executors)
        return min(size for count, size in self.executors if count == most)


def section(keys: int = KEYS, memory: str = MEMORY) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = data.hot_key_text(keys)
    output = data.folder() / "out" / "grouping"
    idle, busy = Sampler(), Sampler()
    trivial = data.folder() / "one-line.txt"
    trivial.write_text("one\n")
    try:
        waited = _run("idle", trivial, output, memory, idle)
        shutil.rmtree(output, ignore_errors=True)
        done = _run("grouping", source, output, memory, busy)
        wrong = waited.error or done.error or check(output, keys)
    finally:
        shutil.rmtree(output, ignore_errors=True)
    if wrong:
        return "", f"Memory: {wrong}"
    beyond = busy.peak - idle.idle
    kept = "kept" if beyond <= LIMIT_BYTES else "MISSED"
    rows = [
        ["", "memory"],
        ["executors, idle", mib(idle.idle)],
        ["executors, at the highest", mib(busy.peak)],
        ["**beyond idle**", mib(beyond)],
        ["the command's own process, at the highest", mib(busy.command_peak)],
    ]
    body = [
        "## Memory",
        f"{data.size_bytes(source) / data.MB:,.0f} MB of text grouped with `--memory {memory}` and {EXECUTORS} "
        f"executors: {keys:,} distinct keys, and one key with half of the {2 * keys:,} values. No combiner. "
        "The result is checked.",
        table(rows),
        f"It took {done.seconds:.0f} s. Limit {mib(LIMIT_BYTES)} beyond idle ({kept}).",
    ]
    return "\n\n".join(body), ""


def check(output: Path, keys: int) -> str:
    """What is wrong with the result; empty if nothing is."""
    distinct = hot = others = length = 0
    for part in parts(output):
        with part.open() as lines:
            for line in lines:
                key, _, value = line.partition("\t")
                count, _, size = value.partition(" ")
                distinct += 1
                length += int(size)
                if key == data.HOT_KEY:
                    hot += int(count)
                else:
                    others += int(count)
    counted = [
        ("distinct keys", distinct, keys + 1),
        ("values of the hot key", hot, keys),
        ("other values", others, keys),
        ("bytes of values", length, 2 * keys * data.VALUE_BYTES),
    ]
    return "; ".join(f"{found:,} {what} instead of {right:,}" for what, found, right in counted if found != right)


def _run(name: str, source: Path, output: Path, memory: str, sampler: Sampler) -> measure.Run:
    output.parent.mkdir(exist_ok=True)
    options = ["--memory", memory, "--executors", str(EXECUTORS), "--no-combiner", "--overwrite", "-o", output]
    return measure.run(
        gristmill("run", job(name), source, *options),
        {"GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")},
        sample_seconds=_SAMPLE_SECONDS,
        observe=sampler,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--memory", default=MEMORY)
    given = parser.parse_args()
    conclude("memory", *section(given.keys, given.memory), write=given.keys == KEYS)
