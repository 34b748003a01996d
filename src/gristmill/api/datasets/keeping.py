"""Keeping what was computed, for the actions that follow."""

from __future__ import annotations

import os
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING

from gristmill.api.datasets.base import Elements, T_co
from gristmill.api.datasets.where import call_site
from gristmill.config import CHECKPOINT_FORMAT
from gristmill.errors import UsageError
from gristmill.plan.logical import Keep, Read
from gristmill.plan.stages import InputSpec, OutputSink

if TYPE_CHECKING:
    from gristmill.api.datasets.dataset import Dataset


class StorageLevel(StrEnum):
    """Where the session keeps a dataset."""

    MEMORY = "MEMORY"
    """In memory; what does not fit is computed again."""
    MEMORY_AND_DISK = "MEMORY_AND_DISK"
    """In memory; what does not fit goes to disk."""
    DISK = "DISK"
    """On disk."""


class Keeping(Elements[T_co]):
    """See :class:`~gristmill.api.datasets.dataset.Dataset`."""

    def cache(self) -> Dataset[T_co]:
        """Keep the elements in memory, and on disk what does not fit: ``persist()``."""
        return self.persist()

    def persist(
        self, level: StorageLevel | str = StorageLevel.MEMORY_AND_DISK, *, compressed: bool = False
    ) -> Dataset[T_co]:
        """Keep the elements once an action has computed them, for the session's actions that follow.

        Nothing is computed now. What is lost is computed again. What was built on this dataset before this call does
        not read what is kept.

        Args:
            level: where.
            compressed: whether the blocks are compressed, which takes less room and more time.

        Returns:
            This dataset itself.

        Raises:
            UsageError: there is no such level, or the dataset is kept already, at another level.
        """
        try:
            level = StorageLevel(level)
        except ValueError:
            levels = ", ".join(StorageLevel)
            raise UsageError(f"{level!r} is not a storage level; there are: {levels}.") from None
        return self._keep(f"{level}_COMPRESSED" if compressed else str(level))

    def checkpoint(self, folder: str | os.PathLike[str] | None = None) -> Dataset[T_co]:
        """Compute the elements now and write them to durable storage, all or nothing; from then on they are read there.

        What they were made from is forgotten: they are never computed again, whatever is lost, and a long chain of
        rounds becomes short. Elements come back as the objects that they were, so read only checkpoints of your own
        (they are pickles); ``session.read_checkpoint(folder)`` does.

        Args:
            folder: where, on storage that all workers see, or a URI; it must not be there. None: on this machine, for
                as long as the session is open.

        Returns:
            This dataset itself.
        """
        place = os.fspath(folder) if folder is not None else self._runner.scratch_folder()
        self._runner.write(self._node, "checkpoint", OutputSink(CHECKPOINT_FORMAT, ""), place, "error")
        _, where = call_site()
        self._node = Read(InputSpec((place,), CHECKPOINT_FORMAT), name="checkpoint", where=where)
        self._partitioned = None
        return self._dataset

    def unpersist(self) -> Dataset[T_co]:
        """Forget what is kept of this dataset. Later actions compute it again.

        Returns:
            This dataset itself.
        """
        if isinstance(self._node, Keep) and self._node.kept:
            kept, self._node = self._node.kept, self._node.child
            self._runner.unpersist(kept)
        return self._dataset

    @property
    def storage_level(self) -> str:
        """Where the session keeps this dataset, or is to keep it; empty if nowhere."""
        return self._node.kept.partition(":")[0] if isinstance(self._node, Keep) else ""

    def _keep(self, level: str) -> Dataset[T_co]:
        if self.storage_level not in ("", level):
            raise UsageError(f"This dataset is kept already, as {self.storage_level}. Call unpersist() first.")
        if not self.storage_level:
            self._node = Keep(self._node, f"{level}:{uuid.uuid4().hex}")
        return self._dataset
