"""What holds for every test.

Hypothesis keeps no database beside the code: a failing example is printed with what makes it again. Signals are as on a
terminal: a shell that runs the suite in the background has them ignored, and so would every process that a test starts.
Files that take long come first: where several processes share the files, the last ones are short, and all end together.
The tests of a file share what they start, so they stay in one process; so do those on Ray, which share a cluster.
The thousands of tests, and what they import, are never garbage: they are not looked through for it again and again.
"""

from __future__ import annotations

import gc
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from ray_kit import RayCluster

settings.register_profile(
    "project", database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

gc.disable()  # until all tests are read

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_RAY = re.compile(r"/test_(\w+_)?ray(_\w+)?\.py|[\[-]ray[-\]]")  # files that are about it, and cases with that fleet
_LONGEST = "test_docs_run.py"
_LONG = {_LONGEST, "chaos", "page", "service", "mr", "fleets", "cli"}
_LONG |= {"contract", "api", "runtime", "examples", "bench", "test_shuffle_fetch.py", "test_storage_objects.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (item.path.name != _LONGEST, _LONG.isdisjoint(item.path.parts)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, the tests of a file stay in one process, and all that use Ray's cluster in another."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class BySharing(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "ray" if _RAY.search(nodeid) else str(super()._split_scope(nodeid))

    return BySharing(config, log)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def ray_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A Ray cluster of two nodes with a CPU each, for all tests of a process: it takes a while to start."""
    from ray_kit import ray_cluster

    with ray_cluster(tmp_path_factory.mktemp("ray"), nodes=2, client=True) as shared:
        yield shared


@pytest.fixture
def on_ray(ray_nodes: RayCluster) -> Iterator[RayCluster]:
    """The same, and ``on="ray"`` leads there."""
    with ray_nodes.joined():
        yield ray_nodes
