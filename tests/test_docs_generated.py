"""The pages that are drawn from the code are what the code says now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gristmill import errors

ROOT = Path(__file__).parents[1]


# What is drawn is imported once, which takes longer than all else.
CALLS = """
import sys
sys.path.insert(0, sys.argv[1])
import generate
for arguments in sys.argv[2:]:
    print("exit code", generate.main(*arguments.split()))
"""


def generate(*calls: str, root: Path) -> list[str]:
    """What each call of the program has said, and its exit code last."""
    command = [sys.executable, "-c", CALLS, str(root / "docs"), *calls]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = done.stdout.splitlines(keepends=True)
    ends = [number for number, line in enumerate(said, 1) if line.startswith("exit code")]
    return ["".join(said[first:last]) for first, last in zip([0, *ends], ends, strict=False)]


def test_no_generated_page_is_stale() -> None:
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_named_and_then_written(tmp_path: Path) -> None:
    for name in (*(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.py")), "tests/import_rules.py"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    stale, written, fresh = generate("--check", "", "--check", root=tmp_path)
    assert "docs/architecture/rooms.generated.md is stale" in stale and stale.endswith("exit code 1\n")
    assert "docs/architecture/rooms.generated.md written" in written and written.endswith("exit code 0\n")
    assert fresh == "exit code 0\n"
    page = tmp_path / "docs" / "architecture" / "task-states.generated.md"
    assert "WAITING --> READY: every parent stage is whole" in page.read_text(encoding="utf-8")


def test_the_tree_that_is_drawn_is_the_tree_of_classes() -> None:
    drawn: list[tuple[str, str]] = []  # (class, parent)
    path: list[str] = []
    doc = errors.__doc__ or ""
    for line in doc.split("::\n\n")[1].split("\n\n")[0].splitlines():
        name = line.lstrip(" │├└─").split()[0]
        depth = (len(line) - len(line.lstrip(" │├└─"))) // 4 - 1
        path[depth:] = [name]
        drawn.append((name, path[depth - 1] if depth else "Exception"))
    classes = {
        cls.__name__: cls.__bases__[0].__name__
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.GristmillError)
    }
    assert dict(drawn) == classes
