"""The same code as the same bytes, in whatever process it is pickled.

Three things make cloudpickle's bytes differ from one process to the next: the order in which a set of strings is
walked; the random id under which a class that travels by value is known to whoever loads it twice; and which equal
strings are one object, which is not the same where a module was compiled as where its bytecode was read. Here sets are
written in sorted order, equal strings are one, and ids are made of the bytes around them: other code has other ids.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import cloudpickle
from cloudpickle import cloudpickle as internals

from gristmill.config import MIB

_LIMIT_BYTES = MIB  # the pickler below is written in Python: large tables in closures would keep the user waiting


def stable_pickle(value: Any, pickled: bytes) -> bytes:
    """Pickle a value so that the bytes follow from its content.

    Args:
        value: what to pickle.
        pickled: what ``cloudpickle.dumps`` made of it. If it is large, or this pickler fails on it, its sets stay as
            they came.
    """
    if len(pickled) <= _LIMIT_BYTES:
        try:
            out = io.BytesIO()
            _SortingPickler(out).dump(value)
            pickled = out.getvalue()
        except Exception:  # user code pickles itself in there; and what came out before is as good to load
            pass
    return _with_ids_of_content(pickled)


def _with_ids_of_content(pickled: bytes) -> bytes:
    known = [name.encode() for name in list(internals._DYNAMIC_CLASS_TRACKER_BY_CLASS.values())]
    ids = sorted((name for name in known if name in pickled), key=pickled.index)
    for name in ids:
        pickled = pickled.replace(name, b"%032d" % ids.index(name))
    content = hashlib.sha256(pickled).digest()
    for place in range(len(ids)):
        name = hashlib.sha256(content + b"%d" % place).hexdigest()[:32].encode()
        pickled = pickled.replace(b"%032d" % place, name)
    return pickled


class _SortingPickler(pickle._Pickler):
    """cloudpickle's ways on top of the pickler that is written in Python, which lets us say how sets are written."""

    dispatch_table = cloudpickle.Pickler.dispatch_table
    _function_reduce = cloudpickle.Pickler._function_reduce
    _dynamic_function_reduce = cloudpickle.Pickler._dynamic_function_reduce
    _function_getnewargs = cloudpickle.Pickler._function_getnewargs

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=cloudpickle.DEFAULT_PROTOCOL)
        self.globals_ref: dict[int, dict[str, Any]] = {}
        self._same: dict[str | bytes, str | bytes] = {}

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) in (str, bytes):
            obj = self._same.setdefault(obj, obj)
        super().save(obj, save_persistent_id)  # type: ignore[misc]  # typeshed does not know it

    def reducer_override(self, value: Any) -> Any:
        if type(value) in (set, frozenset):
            return type(value), (sorted(value, key=lambda item: (type(item).__name__, repr(item))),)
        return cloudpickle.Pickler.reducer_override(self, value)
