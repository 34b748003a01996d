"""Arrow without numpy, for processes that only hand its bytes on: half of the time to import it, and 25 MiB less.

Arrow imports numpy with itself, if it is installed, and never looks again. A worker's own process makes no arrays of
numpy, and no user's code runs there: it does without. Whoever imports numpy there later gets it as ever; only Arrow
does not know of it.
"""

from __future__ import annotations

import sys
from typing import Any


def import_arrow() -> None:
    """Import Arrow, if nobody has yet. For processes in which nobody else imports meanwhile."""
    if "pyarrow" in sys.modules or "numpy" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    modules["numpy"] = None  # which means: there is none
    try:
        import pyarrow as pyarrow
    finally:
        del modules["numpy"]
