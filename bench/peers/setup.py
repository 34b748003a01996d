"""Makes the environment of the peers, apart from the project's own, and says which of them can be run.

    python bench/peers/setup.py

The environment is `.bench-venv` in the checkout. It is made once; what could not be installed is tried again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE.parent.parent / ".bench-venv"
PYTHON = VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
PEERS = {"spark": "pyspark", "dask": "dask", "duckdb": "duckdb", "polars": "polars", "ray": "ray"}
"""What a peer is called here, and its package. Ray is there for Ray Data."""

_INSTALL_SECONDS = 1200
_PROBE_SECONDS = 60


def prepare(names: list[str]) -> dict[str, str]:
    """Install these peers if they are not there.

    Returns:
        For each of them, the reason why it cannot be run; empty if it can.
    """
    reasons = dict.fromkeys(names, "")
    if not names:
        return reasons
    if not PYTHON.exists():
        print(f"making {VENV.name} for the peers", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True, timeout=_INSTALL_SECONDS)
    for name in names:
        if name == "spark" and not shutil.which("java"):
            reasons[name] = "no java here"
        elif not version_of(name) and not _install(PEERS[name]):
            reasons[name] = "could not be installed"
    return reasons


def version_of(name: str) -> str:
    """The version of an installed peer; empty if it is not installed."""
    if not PYTHON.exists():
        return ""
    probe = f"from importlib.metadata import version; print(version({PEERS[name]!r}))"
    done = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, timeout=_PROBE_SECONDS)
    return done.stdout.strip() if done.returncode == 0 else ""


def _install(package: str) -> bool:
    # The file names which version of a package is wanted, should one have to be held back.
    wanted = next(line for line in (HERE / "requirements.txt").read_text().split() if line.startswith(package))
    print(f"installing {wanted}", file=sys.stderr)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted]
    try:
        return subprocess.run(command, stdout=sys.stderr, timeout=_INSTALL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    for peer, reason in prepare(list(PEERS)).items():
        print(f"{peer}: {reason or version_of(peer)}")
