"""Plays one seed of the simulated cluster again, and prints every event and command: `replay.py SEED`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sim_cluster import Scenario


def main() -> None:
    trace: list[str] = []
    try:
        cluster = Scenario(int(sys.argv[1]), 1, trace).run()
    finally:
        print("\n".join(trace))
    print(Counter(state.value for state in cluster.journal.ended.values()), f"{cluster.steps} steps")


if __name__ == "__main__":
    main()
