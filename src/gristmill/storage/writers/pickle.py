"""``pickle``: a result that only the job's owner reads, so that it comes back as the objects it was made of."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from gristmill.storage.writers.base import PartWriter, unencodable


class PicklePart(PartWriter):
    """Writes pickled ``(keys, values)`` chunks, one after another."""

    format = "pickle"

    def _write_batch(self, keys: Sequence[Any], values: Sequence[Any]) -> None:
        self._file.write(dumps((list(keys), list(values))))


def dumps(chunk: tuple[list[Any], list[Any]]) -> bytes:
    """A chunk of pairs.

    Raises:
        OutputUnencodable: one of them cannot be pickled.
    """
    try:
        return pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        pass  # a class of the job's own script is not importable; cloudpickle takes it along
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(chunk, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _unencodable(*chunk) from error
    return data


def _unencodable(keys: list[Any], values: list[Any]) -> Exception:
    import cloudpickle

    for key, value in zip(keys, values, strict=True):
        try:
            cloudpickle.dumps((key, value))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            return unencodable("a Python object", error, key, value, "Yield data, not open files, locks or generators.")
    raise AssertionError("one of the pairs cannot be pickled")
