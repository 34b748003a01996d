"""What travels with a job: the modules beside its script, and what ``--py-files`` names, as one zip file.

A module is local if it is neither of the standard library nor installed: what lies beside the script, in the current
folder, or in a folder of PYTHONPATH. Found are those that are loaded and, by reading the ``import`` statements of all
that travels, those that will be loaded later. A package travels whole, with its data files.

The same files make the same bytes, so that whoever has them by their SHA-256 need not be sent them again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from gristmill.config import MIB, format_size
from gristmill.errors import UsageError
from gristmill.plan.trees import parsed
from gristmill.runtime.files.bundles import SOURCES, TEXTS, home_of

MAX_BUNDLE_BYTES = 256 * MIB
_KEPT_ZIP_BYTES = 16 * MIB
_ARCHIVES = (".zip", ".whl", ".egg")
_ENGINE = Path(__file__).resolve().parents[1]
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_STATEMENTS = ("body", "orelse", "handlers", "finalbody", "cases")  # where a node of a syntax tree holds statements
_NOT_OURS = ("__pycache__", "node_modules", "site-packages", "dist-packages")


@dataclass(frozen=True)
class _Member:
    """A file that travels: where it lies, and its bytes if they are not to be read from there."""

    home: str
    content: bytes | None = None

    @property
    def data(self) -> bytes:
        """Its bytes."""
        if self.content is not None:
            return self.content
        try:
            return Path(self.home).read_bytes()
        except OSError as error:
            raise UsageError(f"{self.home} belongs to the job and cannot be read: {error.strerror}.") from error

    @property
    def size_bytes(self) -> int:
        """How many there are; 0 if it is gone."""
        if self.content is not None:
            return len(self.content)
        try:
            return Path(self.home).stat().st_size
        except OSError:
            return 0

    def digest(self) -> str:
        """What tells it from another: code by its SHA-256; data, which may be much, by its size and time of change."""
        if self.content is not None or self.home.endswith(".py"):
            return hashlib.sha256(self.data).hexdigest()
        try:
            status = Path(self.home).stat()
        except OSError:  # it went away while we looked; whoever needs it will say so
            return ""
        return hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()


class Shipment:
    """The files that belong to a job.

    Args:
        pickled: the job's functions, as ``pickle_code`` makes them; the scripts that they come from are read.
        py_files: what ``--py-files`` names.
        scripts: files that are read as well.

    Raises:
        UsageError: there is no such file as one of ``py_files``, or it cannot be sent.
    """

    def __init__(self, pickled: bytes, py_files: Sequence[str] = (), scripts: Sequence[str] = ()) -> None:
        self._given: dict[str, _Member] = {}  # by name in the zip file
        for name in py_files:
            for member, file in _given_members(name):
                self._given.setdefault(member, file)
        self._scripts = {**dict(_scripts(pickled)), **{Path(file).name: _Member(file) for file in scripts}}
        # What was typed in has no file: then the code itself says what it is, even if it says so otherwise each time.
        self._typed_in = pickled if _holds_what_has_no_file(pickled) else None
        self._local = dict(_local_members([*self._scripts.values(), *self._given.values()], _loaded()))

    def sources(self) -> Mapping[str, str]:
        """What the job's code is made of: a digest of each file by its name."""
        files = {**self._local, **self._given, **self._scripts}
        digests = {name: file.digest() for name, file in sorted(files.items())}
        if self._typed_in is not None:
            digests["<code>"] = hashlib.sha256(self._typed_in).hexdigest()
        return digests

    def bundle(self) -> bytes | None:
        """All of it as a zip file; None if there is nothing to send.

        Raises:
            UsageError: it is too much, or a file cannot be read.
        """
        scripts = {TEXTS + name: file for name, file in self._scripts.items()}
        members = {**self._local, **self._given, **scripts}
        size = sum(file.size_bytes for file in members.values())
        if size > MAX_BUNDLE_BYTES:
            largest = max(members.values(), key=lambda file: file.size_bytes)
            raise UsageError(
                f"The modules that the job imports are {format_size(size)} together, and at most "
                f"{format_size(MAX_BUNDLE_BYTES)} travel with a job. The largest file is {largest.home}: read such "
                "data from a path that all workers see."
            )
        return _zip(members) if members else None


def add_to_path(py_files: Sequence[str]) -> None:
    """Let this process import what ``--py-files`` names, as executors will.

    Raises:
        UsageError: there is no such file, or it is nothing that can be imported from.
    """
    for name in reversed(py_files):
        path = _checked(name)
        holds_it = path if path.suffix in _ARCHIVES or _is_folder_of_modules(path) else path.parent
        if str(holds_it) not in sys.path:
            sys.path.insert(0, str(holds_it))


def _checked(name: str) -> Path:
    path = Path(name).absolute()
    if not path.exists():
        raise UsageError(f"--py-files: there is no {name}.")
    if not path.is_dir() and path.suffix not in (".py", *_ARCHIVES):
        raise UsageError(f"--py-files: {name} is neither a .py, .zip or .whl file nor a directory.")
    return path


def _is_folder_of_modules(path: Path) -> bool:
    return path.is_dir() and not (path / "__init__.py").exists()


# What was named


def _given_members(name: str) -> Iterator[tuple[str, _Member]]:
    import zipfile

    path = _checked(name)
    if path.is_dir():
        prefix = "" if _is_folder_of_modules(path) else f"{path.name}/"
        yield from _folder_members(path, prefix)
    elif path.suffix == ".py":
        yield path.name, _Member(str(path))
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if not member.endswith(("/", ".pyc")) and member != SOURCES:
                        yield member, _Member(f"{path}/{member}", archive.read(member))
        except (OSError, zipfile.BadZipFile) as error:
            raise UsageError(f"--py-files: {name} cannot be read as a zip file: {error}.") from error


def _folder_members(folder: Path, prefix: str, *, only_code: bool = False) -> Iterator[tuple[str, _Member]]:
    """The files below a folder, by their names in the zip file."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _travels(Path(parent, name)))
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or name.endswith(".pyc") or (only_code and path.suffix != ".py"):
                continue
            if path.is_file():
                yield prefix + path.relative_to(folder).as_posix(), _Member(str(path))


def _travels(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name not in _NOT_OURS and not (folder / "pyvenv.cfg").exists()


# What the job is made of


def _scripts(pickled: bytes) -> Iterator[tuple[str, _Member]]:
    """The files of modules whose functions travel by value."""
    from gristmill.api.pickling import modules_by_value

    for module in modules_by_value(pickled):
        if (text := _text_of(module)) is not None:
            yield Path(module.__file__ or "").name, _Member(module.__file__ or "", text.encode())
        elif (path := _file_of(module)) is not None:
            yield path.name, _Member(str(path))


def _holds_what_has_no_file(pickled: bytes) -> bool:
    from gristmill.api.pickling import modules_by_value

    return any(_file_of(module) is None and _text_of(module) is None for module in modules_by_value(pickled))


def _text_of(module: ModuleType) -> str | None:
    """The text of a script that was run by us: its file may be on another machine."""
    from gristmill.api.driver import ScriptText

    loader = getattr(module, "__loader__", None)
    return loader.get_source(module.__name__) if isinstance(loader, ScriptText) else None


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if file and Path(file).is_file() else None


def _loaded() -> Iterator[str]:
    """The local modules of this process, by the first part of their names."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name != "__main__" and isinstance(module, ModuleType) and isinstance(file, str) and _is_local(file):
            yield name.partition(".")[0]


def _local_members(texts: Iterable[_Member], loaded: Iterable[str]) -> Iterator[tuple[str, _Member]]:
    """All local modules that these texts import, and the texts of those, and so on; and those that are loaded."""
    from cloudpickle import list_registry_pickle_by_value

    waiting = [*dict.fromkeys(loaded)]
    for text in texts:
        waiting += _imports(text)
    seen = set(list_registry_pickle_by_value())
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for member, file in _module_members(name):
            yield member, file
            waiting += _imports(file)


def _imports(file: _Member) -> frozenset[str]:
    """The first parts of the names that a module imports, wherever in it."""
    if not file.home.endswith(".py"):
        return frozenset()
    data = file.data
    known = _names_imported.get(digest := hashlib.sha256(data).digest())
    if known is None:
        known = _names_imported[digest] = frozenset(_read_imports(data))
    return known


_names_imported: dict[bytes, frozenset[str]] = {}  # by the SHA-256 of the text: a process may run many jobs


def _read_imports(text: bytes) -> Iterator[str]:
    tree = parsed(text)
    waiting: list[ast.AST] = [tree] if tree else []  # it is not for us to complain: perhaps nobody ever imports it
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        for place in _STATEMENTS:  # there are many more expressions, and none of them imports by a statement
            waiting += getattr(node, place, ())


def _module_members(name: str) -> Iterator[tuple[str, _Member]]:
    """The files of a local module or package; none if it is not local."""
    if name in sys.stdlib_module_names or name in ("gristmill", "__main__"):
        return
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return
    if spec is None:
        return
    if spec.origin and spec.has_location:
        path = Path(spec.origin)
        if not _is_local(str(path)) or not path.is_file():
            return
        if path.name.startswith("__init__.") and spec.submodule_search_locations:
            yield from _folder_members(path.parent, f"{name}/")
        else:
            yield path.name, _Member(str(path))
    else:  # a package without __init__.py: any folder may be one, so nothing but code of it travels
        for folder in spec.submodule_search_locations or ():
            if _is_local(folder) and Path(folder).is_dir():
                yield from _folder_members(Path(folder), f"{name}/", only_code=True)


@cache
def _foreign_folders() -> tuple[str, ...]:
    """Where the standard library, installed packages and Gristmill are."""
    paths = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(os.path.realpath(path) + os.sep for path in (*paths, str(_ENGINE)))


@cache
def _is_local(file: str) -> bool:
    real = os.path.realpath(file)
    return not real.startswith(_foreign_folders()) and not set(_NOT_OURS).intersection(Path(real).parts)


def _zip(members: Mapping[str, _Member]) -> bytes:
    """A zip file whose bytes depend on nothing but its members."""
    import zipfile

    home = json.dumps({name: home_of(file.home) for name, file in sorted(members.items())}, indent=0)
    held = sorted([(SOURCES, home.encode()), *((name, file.data) for name, file in members.items())])
    content = hashlib.sha256()
    for name, data in held:
        content.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogatepass"))
        content.update(data)
    if (made := _last_zip.get(content.digest())) is not None:
        return made
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in held:
            info = zipfile.ZipInfo(name, _ZIP_TIME)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    made = out.getvalue()
    _last_zip.clear()
    if len(made) <= _KEPT_ZIP_BYTES:
        _last_zip[content.digest()] = made
    return made


_last_zip: dict[bytes, bytes] = {}  # by what it holds: each action of a dataset on a server is a job of the same files
