"""Arrow without pandas, until the job's own code wants pandas.

Arrow imports pandas, if it is installed, with the first array that it makes of Python objects: a quarter of a second
and 40 MiB in every executor. It looks only once. Here it looks while pandas cannot be found, and is told as soon as
somebody imports pandas: from then on it knows the objects of pandas as ever.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa

_PANDAS = "pandas"


def defer_pandas() -> None:
    """Let Arrow do without pandas until it is imported. For processes in which nobody else imports meanwhile."""
    known = getattr(pa.lib, "_pandas_api", None)  # what Arrow knows of pandas; not part of its promises
    if known is None or _PANDAS in sys.modules:
        return
    watch = _Watch(known)
    sys.meta_path.insert(0, watch)
    pa.array([None])
    watch.hides = False


class _Watch(MetaPathFinder):
    """Hides pandas at first; then tells Arrow of it when it has been imported."""

    def __init__(self, known: Any) -> None:
        self.hides = True
        self._known = known

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """Find pandas as if nobody watched, and go."""
        if name != _PANDAS:
            return None
        if self.hides:
            raise ModuleNotFoundError(f"No module named {name!r} yet", name=name)
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_tell(module: ModuleType) -> None:
                run(module)
                with contextlib.suppress(ImportError):  # one that is too old for Arrow
                    _ = self._known.pd

            spec.loader.exec_module = run_and_tell  # type: ignore[method-assign]
        return spec
