"""A Ray cluster as a process, for tests: ``ray.cluster_utils.Cluster``, which adds and removes nodes as it is told.

It reads an order a line from its standard input, as JSON, and answers each with a line. All that Ray prints goes to its
standard error. When its input ends, so do all nodes and all that they have left in ``RAY_TMPDIR``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from typing import Any

import psutil
from ray.cluster_utils import Cluster


def main() -> None:
    """Carry out orders."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    cluster = Cluster()
    nodes: dict[str, Any] = {}
    for line in sys.stdin:
        order = json.loads(line)
        match order.pop("do"):
            case "add":
                node = cluster.add_node(include_dashboard=False, **order)
                nodes[node.node_id] = node
                pids = [one.process.pid for some in node.all_processes.values() for one in some]
                raylet = node.all_processes["raylet"][0].process.pid
                answer = {"id": node.node_id, "address": cluster.address, "raylet": raylet, "pids": pids}
            case "remove":
                cluster.remove_node(nodes.pop(order["id"]), allow_graceful=order["graceful"])
                answer = {}
            case other:
                raise ValueError(other)
        print(json.dumps(answer), file=answers)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    shutil.rmtree(os.environ["RAY_TMPDIR"], ignore_errors=True)
    os._exit(0)  # there is nothing to be kept: nobody has to say goodbye


if __name__ == "__main__":
    main()
