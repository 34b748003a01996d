"""What the calls of a dataset's program do, by their names."""

from __future__ import annotations

from gristmill.compute.pipes.command import COMMAND
from gristmill.compute.pipes.context import Operator
from gristmill.compute.pipes.ends import ENDS
from gristmill.compute.pipes.groups import GROUPS
from gristmill.compute.pipes.joins import JOINS
from gristmill.compute.pipes.narrow import NARROW
from gristmill.compute.pipes.numbering import NUMBERING
from gristmill.compute.pipes.order import ORDER
from gristmill.compute.pipes.tables import TABLES

__all__ = ["PIPES"]

PIPES: dict[str, Operator] = {**NARROW, **NUMBERING, **COMMAND, **TABLES, **GROUPS, **JOINS, **ORDER, **ENDS}
