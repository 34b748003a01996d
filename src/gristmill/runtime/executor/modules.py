"""Which modules the tasks of a job import: its own first, and never those of another job.

Several jobs share an executor, one task at a time. When another job's task comes, the modules that the last one brought
along are set aside, and are there again, the very same, when it goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from gristmill.runtime.contracts import JobSpec
from gristmill.runtime.files.bundles import open_bundles

_ENGINE = (str(Path(__file__).parents[2]), sys.prefix)


class JobModules:
    """The module search path of this process, and the modules of its jobs. Made before any job runs."""

    def __init__(self) -> None:
        self._path = list(sys.path)
        self._paths: dict[str, list[str]] = {}  # of each job that was here
        self._aside: dict[str, dict[str, ModuleType]] = {}  # of each of those but the one that is here now
        self._here = ""

    def enter(self, job: JobSpec) -> None:
        """Let imports find the job's own modules first.

        Raises:
            OSError: what it brought along cannot be unpacked.
        """
        if job.job != self._here:
            self._leave()
            own = [*open_bundles(job.bundles), *job.import_paths]
            self._paths[job.job] = list(dict.fromkeys([*own, *self._path]))
            self._here = job.job
            sys.modules.update(self._aside.pop(job.job, {}))
        sys.path[:] = self._paths[job.job]

    def drop(self, job: str) -> None:
        """Forget a job, and the modules it brought along: the next one may have others of the same names."""
        if job == self._here:
            self._leave()
            sys.path[:] = self._path
        self._aside.pop(job, None)
        self._paths.pop(job, None)

    def _leave(self) -> None:
        if self._here:
            self._aside[self._here] = self._brought(self._paths[self._here])
            for name in self._aside[self._here]:
                del sys.modules[name]
            self._here = ""

    def _brought(self, paths: list[str]) -> dict[str, ModuleType]:
        own = _folders(path for path in paths if path not in self._path)
        if not own:
            return {}
        # A job's folder may have this process's own within: a project with its virtual environment, say.
        ours = _folders([*self._path, *_ENGINE])
        return {
            name: module
            for name, module in list(sys.modules.items())
            if _depth(home := _home(module), own) > _depth(home, ours)
        }


def _folders(paths: Iterable[str]) -> list[str]:
    return [path.rstrip(os.sep) + os.sep for path in paths if path]


def _depth(home: str, folders: Sequence[str]) -> int:
    """How far down the deepest of the folders is that holds this place; 0 if none does."""
    return max((len(folder) for folder in folders if home.startswith(folder)), default=0)


def _home(module: ModuleType) -> str:
    """Where a module was found; empty for what is built in."""
    file = getattr(module, "__file__", None)
    if file is None:  # a package without __init__.py has only a place where its modules are looked for
        file = next(iter(getattr(module, "__path__", None) or ()), None)
        file = f"{file}{os.sep}" if file else None
    return file if isinstance(file, str) else ""
