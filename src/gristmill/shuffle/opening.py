"""Opens files in places where user code may put what it likes: a link, a pipe, another folder.

A link is not followed, a pipe does not keep us waiting, and what is opened is a file of its own.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import PurePath

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINKS
_WALKS = os.open in os.supports_dir_fd  # not on Windows


def open_file(path: str | os.PathLike[str], dir_fd: int | None = None) -> FileIO:
    """Open a file. What is not a file of its own, such as a link or a pipe, is not there.

    Args:
        path: the file. Links in the folders above it are followed.
        dir_fd: what a relative path begins at.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    try:
        flags = os.O_RDONLY | _NO_LINKS
        file = FileIO(os.open(path, flags) if dir_fd is None else os.open(path, flags, dir_fd=dir_fd))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise FileNotFoundError(errno.ENOENT, "is not a file", os.fspath(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "is not a file", os.fspath(path))
    return file


def open_real(path: str) -> FileIO:
    """Open the file of a path that has no links, as ``os.path.realpath`` gives it.

    If somebody puts a link there after that, in the place of a folder or of the file, nothing is there.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    root, *folders, name = PurePath(path).parts
    if not _WALKS or root != os.sep or ".." in folders:
        if os.path.realpath(path) != path:
            raise FileNotFoundError(errno.ENOENT, "is not a file", path)
        return open_file(path)
    at = os.open(os.sep, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        return open_file(name, at)
    except OSError as error:
        error.filename = path
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise FileNotFoundError(errno.ENOENT, "is not a file", path) from error
        raise
    finally:
        os.close(at)
