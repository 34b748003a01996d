"""Runs what takes longer than CI has (``make soak``) and writes down how it went.

    python bench/soak.py [--part NAME] [--again] [PYTEST OPTION ...]

Everything below ``tests/`` that is marked ``soak`` runs. RESULTS.md gets a line for each test function: how many cases,
how many failed, how long they took, what they noted, and why any were skipped. The whole takes an hour or more: with
``--again`` only what the options select runs, and takes the place of what the same cases gave before. ``--part`` gives
what the options select a section of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import data
from results import table, write_section

ROOT = Path(__file__).resolve().parent.parent
TEST_TIMEOUT_SECONDS = 3600
# By the name of a part, what it is if the options do not say.
PARTS = {"ray": ["-k", "_ray or [ray- or [ray] or -ray] or -ray-"]}


@dataclass
class Line:
    """What became of one test function, all its cases together."""

    cases: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def main(options: Iterable[str]) -> int:
    """Run the soak and write the section. Returns pytest's exit code."""
    options, part = list(options), ""
    if "--part" in options:
        place = options.index("--part")
        _, part = options[place : place + 2]
        del options[place : place + 2]
        if not set(options) - {"--again"}:
            options += PARTS.get(part, [])
    name = f"soak_{part}" if part else "soak"
    reports = data.folder() / name
    if "--again" in options:
        options.remove("--again")
    else:
        shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True, exist_ok=True)
    report = reports / f"{len(list(reports.iterdir())):03d}.xml"
    pytest = [sys.executable, "-m", "pytest", "-m", "soak", "--timeout", str(TEST_TIMEOUT_SECONDS), "-rA"]
    # The older form of the report is the one with properties of single tests.
    written = ["-o", "junit_family=xunit1", "--junitxml", report]
    code = subprocess.run([*pytest, *written, *options], cwd=ROOT, check=False).returncode
    if report.exists():
        write_section(name, section(cases(sorted(reports.iterdir())), part))
    return code


def cases(reports: Iterable[Path]) -> list[ElementTree.Element]:
    """The cases of some JUnit reports; of those that ran several times, the last."""
    found: dict[tuple[str | None, str | None], ElementTree.Element] = {}
    for report in reports:
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if not case.get("classname"):  # the run was interrupted
                continue
            found[case.get("classname"), case.get("name")] = case
    return list(found.values())


def section(ran: Iterable[ElementTree.Element], part: str = "") -> str:
    """The section for RESULTS.md of some cases: all, or those of a part."""
    lines: dict[str, Line] = {}
    for case in ran:
        name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name', '').partition('[')[0]}"
        name = name.replace("test_", "").replace("_", " ")
        line = lines.setdefault(name, Line())
        line.cases += 1
        line.seconds += float(case.get("time", 0))
        line.failed += case.find("failure") is not None or case.find("error") is not None
        if (skipped := case.find("skipped")) is not None:
            line.skipped += 1
            line.notes.append(f"skipped: {name}: {skipped.get('message')}")
        line.notes += [each.get("value", "") for each in case.iter("property") if each.get("name") == "note"]
    rows = [["", "cases", "failed", "skipped", "seconds"]]
    for name, line in sorted(lines.items()):
        rows.append([name, *(f"{n:,}" for n in (line.cases, line.failed, line.skipped)), f"{line.seconds:,.0f}"])
    failed, seconds = sum(line.failed for line in lines.values()), sum(line.seconds for line in lines.values())
    count = sum(line.cases for line in lines.values())
    total = f"{count:,} cases in {seconds / 60:.0f} minutes, {failed or 'none'} failed."
    notes = [f"- {note}" for line in lines.values() for note in dict.fromkeys(line.notes)]
    title = f"## Soak: {part}" if part else "## Soak"
    parts = [title, f"What takes longer than CI has: `make soak`. {total}", table(rows), "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
