"""What the calls of a dataset's program do, by their names."""

from __future__ import annotations

from importlib import import_module

from gristmill.compute.pipes.command import COMMAND
from gristmill.compute.pipes.context import Operator
from gristmill.compute.pipes.ends import ENDS
from gristmill.compute.pipes.narrow import NARROW
from gristmill.compute.pipes.numbering import NUMBERING
from gristmill.compute.pipes.tables import TABLES

__all__ = ["PIPES"]

PIPES: dict[str, Operator] = {**NARROW, **NUMBERING, **COMMAND, **TABLES, **ENDS}

for _table in ("groups", "joins", "order"):  # until all of them are there
    try:
        PIPES.update(getattr(import_module(f"gristmill.compute.pipes.{_table}"), _table.upper()))
    except ModuleNotFoundError as _error:
        if _table not in str(_error):
            raise
