"""How soon the first of many small files is read, and by how many tasks all of them.

python bench/small_files.py [--runs 3] [--files 10000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

import data
from results import conclude, table, verdict
from settings import Settings, dataset

FILES = 10_000
SMOKE_FILES = 100
LIMIT_SECONDS = 5.0
TASKS_A_CORE = 4


def section(runs: int = Settings.runs, files: int = FILES) -> tuple[str, str]:
    """Measure.

    Returns:
        The section for RESULTS.md, and why it cannot be believed; empty if it can.
    """
    source = data.small_files(files)
    output = data.folder() / "out" / "small-files"
    output.parent.mkdir(exist_ok=True)
    environment = {**os.environ, "GRISTMILL_DATA_DIR": str(data.folder() / "gristmill")}
    firsts, wholes, counts = [], [], set()
    for _ in range(runs):
        shutil.rmtree(output, ignore_errors=True)
        began, start = time.time(), time.perf_counter()
        command = [*dataset("small_files"), source, output]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
        wholes.append(time.perf_counter() - start)
        shutil.rmtree(output, ignore_errors=True)
        if done.returncode:
            return "", f"Small files: {done.stderr.strip()}"
        tasks, lines, first = done.stdout.split()
        if int(lines) != files * data.SMALL_FILE_LINES:
            return "", f"Small files: {lines} lines were counted"
        counts.add(int(tasks))
        firsts.append(float(first) - began)
        print(f"  first {firsts[-1]:.2f} s, all {wholes[-1]:.2f} s, {tasks} tasks", file=sys.stderr)
    most, first = max(counts), statistics.median(firsts)
    limit = TASKS_A_CORE * (os.cpu_count() or 1)
    body = [
        "## Small files",
        f"{files:,} files of 4 KiB are read and their lines counted, by a chain. From the start of the process.",
        table(
            [
                ["", "median", "limit"],
                ["first element in a task", f"{first:.2f} s", f"{LIMIT_SECONDS} s ({verdict(first <= LIMIT_SECONDS)})"],
                ["end of the process", f"{statistics.median(wholes):.2f} s", ""],
                ["tasks", str(most), f"{limit} ({verdict(most <= limit)})"],
            ]
        ),
    ]
    return "\n\n".join(body), ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=Settings.runs)
    parser.add_argument("--files", type=int, default=FILES)
    given = parser.parse_args()
    conclude("small_files", *section(given.runs, given.files), write=given.files == FILES)
