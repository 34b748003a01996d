"""Opens what jobs have left: logs, blocks, parts of an output, wherever user code may have put something else."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import PurePath

from gristmill.errors import BlockMissing, FailureReport
from gristmill.shuffle.contracts import SegmentInfo
from gristmill.shuffle.opening import open_file as open_file
from gristmill.shuffle.opening import open_real
from gristmill.shuffle.shelf import located, twin_of


def open_inside(folder: str, name: str) -> FileIO:
    """Open a file of a folder, and of nowhere else.

    Args:
        folder: without links, as ``os.path.realpath`` gives it.
        name: of the file, relative to that. Links on the way there are not followed.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    path = PurePath(folder, name)
    if ".." in path.parts or not path.is_relative_to(folder):
        raise PermissionError(f"{name} is not in {folder}")
    return open_real(str(path))


def is_block_of(path: str, owners: tuple[str, ...]) -> bool:
    """Whether a path may be that of a block of one of these jobs or sessions: ``…/jobs/OWNER/blocks/NAME``."""
    parts = PurePath(path).parts
    return len(parts) > 4 and parts[-2] == "blocks" and parts[-3] in owners and ".." not in parts


def open_block(path: str, owner: str, segment: SegmentInfo) -> FileIO:
    """Open a block's file where one of its segments begins, by the rules by which workers serve them.

    Args:
        path: by which the block is known: an executor has said so.
        owner: the job, or the session, whose block it is.
        segment: what is to be read.

    Raises:
        BlockMissing: it is not there, or is not what a block of this owner is.
    """
    try:
        where = located(path)
        folder, name = os.path.split(where)
        folder = os.path.realpath(folder)
        if where == path:
            is_ours = is_block_of(path, (owner,)) and PurePath(folder).parts[-3:] == ("jobs", owner, "blocks")
        else:
            twin = twin_of(PurePath(path).parent.parent)
            is_ours = is_block_of(path, (owner,)) and twin is not None and folder == os.path.realpath(twin)
        if not is_ours:
            raise FileNotFoundError(f"it is not a block of {owner}")
        file = open_real(os.path.join(folder, name))  # noqa: PTH118 - it has no links
    except (OSError, ValueError) as error:
        raise _missing(path, str(getattr(error, "strerror", None) or error)) from error
    size = os.fstat(file.fileno()).st_size
    if not 0 <= segment.offset <= segment.offset + segment.length <= size:
        file.close()
        raise _missing(path, f"it has {size} bytes")
    file.seek(segment.offset)
    return file


def _missing(path: str, why: str) -> BlockMissing:
    message = f"The block {path} cannot be read: {why}."
    return BlockMissing(FailureReport(error="BlockMissing", message=message, details={"block": path}))
