"""Adding files to an output that is there, all or none.

The new files have names of their own (the job's id is in them). They are moved in one after another, and count once
``_SUCCESS`` lists them: that is replaced in one step. Before the first one is moved, a file ``append.json`` in the
staging folder says so: whoever finds it after a crash moves the others and replaces ``_SUCCESS``, or, where that cannot
be done any more, takes the files away again. So an append that has begun ends as if it had not been cut short.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gristmill.storage import manifest
from gristmill.storage.disk import read_plain, sync_file, sync_folder
from gristmill.storage.failpoints import failpoint
from gristmill.storage.manifest import MAX_BYTES, SUCCESS, ListedFile
from gristmill.storage.renames import rename_new

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

APPEND = "append.json"  # says that files are being moved into the output
_MERGED = "merged.json"  # the output's next _SUCCESS
_LOCK_SECONDS = 60.0
_RETRY_SECONDS = 0.02


def append(staging: Path, final: Path, output: Path) -> None:
    """Add the files in ``final`` to the output, as ``_SUCCESS`` there lists them.

    Raises:
        OSError: it cannot be done, and nothing was added.
    """
    _write(staging / APPEND, {"output": output.name})
    failpoint("append.journalled")
    try:
        complete(staging, final, output)
    except OSError:
        undo(staging, final, output)
        raise


def complete(staging: Path, final: Path, output: Path) -> None:
    """Go on with an append from wherever it stands.

    Raises:
        FileNotFoundError: the output, or a file, is there no more.
        OSError: it cannot be done.
    """
    new = _content(final)
    names = [str(file["name"]) for file in new["files"]]
    with locked(output):
        before = manifest.load(output)
        if before is not None and before.holds(str(new.get("job_id"))):
            return
        found = [] if before is not None else _found(output, set(names))
        _move(final, output, names)
        failpoint("append.moved")
        merged = staging / _MERGED
        _write(merged, manifest.added(before, found, new))
        failpoint("append.list-written")
        merged.replace(output / SUCCESS)
        sync_folder(output)


def undo(staging: Path, final: Path, output: Path) -> None:
    """Take the files of an append that cannot be completed away again; unless it was complete."""
    new = _content(final)
    with suppress(OSError):
        listed = manifest.load(output)
        if listed is not None and listed.holds(str(new.get("job_id"))):
            return
    with suppress(OSError):
        (staging / APPEND).unlink(missing_ok=True)  # from here on nobody completes it
        sync_folder(staging)
    for file in new["files"]:
        source, target = final / file["name"], output / file["name"]
        with suppress(OSError):  # it is not listed: nobody takes it for the output's
            if os.path.lexists(target) and not os.path.lexists(source):
                source.parent.mkdir(parents=True, exist_ok=True)
                target.rename(source)
            _remove_empty(target.parent, output)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other appends, and whoever would replace the folder, away from it; where the system can.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: others have had it for a minute.
    """
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if fcntl is not None else -1
        try:
            if fcntl is None or (_lock(descriptor) and _is_same(descriptor, folder)):
                yield
                return
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if time.monotonic() > until:
            raise OSError(errno.EAGAIN, "somebody else has been adding to it for a minute", str(folder))
        time.sleep(_RETRY_SECONDS)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # locks do not work there
        return True
    return True


def _is_same(descriptor: int, folder: Path) -> bool:
    """Whether a folder is still the one that was locked; it may have been replaced meanwhile."""
    mine, there = os.fstat(descriptor), folder.stat()
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _move(final: Path, output: Path, names: list[str]) -> None:
    folders = {output}
    for number, name in enumerate(names):
        source, target = final / name, output / name
        if os.path.lexists(source):
            _make(target.parent, output, folders)
            rename_new(source, target)
        elif not os.path.lexists(target):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))
        folders.add(target.parent)
        if number == 0:
            failpoint("append.first-moved")
    for folder in folders:
        sync_folder(folder)


def _make(folder: Path, output: Path, folders: set[Path]) -> None:
    """Make the folders of a file, and note them to be made durable."""
    while folder not in folders:
        folders.add(folder)
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.parent
    assert output in folders


def _content(final: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(read_plain(final / SUCCESS, MAX_BYTES))
    return content


def _found(output: Path, new: set[str]) -> list[ListedFile]:
    """The files with records in an output that has no list of them, but for the new ones."""
    found = []
    for parent, folders, names in os.walk(output):
        folders[:] = sorted(name for name in folders if not name.startswith(("_", ".")))
        for name in sorted(names):
            path = Path(parent, name)
            file = ListedFile(path.relative_to(output).as_posix(), path.stat().st_size)
            if file.is_data and file.name not in new:
                found.append(file)
    return found


def _remove_empty(folder: Path, output: Path) -> None:
    while folder != output:
        folder.rmdir()
        folder = folder.parent


def _write(path: Path, content: Any) -> None:
    path.write_bytes(manifest.encode(content))
    sync_file(path)
    sync_folder(path.parent)
