"""Writes what is made from ``agents.proto``: ``python -m gristmill.runtime.protocol.generate``. Needs grpcio-tools.

``agents.pyi`` is what type checkers read. ``agents.binpb`` is the compiled description, of which ``agents.py`` makes
its classes; unlike generated Python code it fits every version of protobuf.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MADE = ("agents.binpb", "agents.pyi")


def generate(folder: Path) -> None:
    """Write both files into a folder."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["protoc", f"-I{HERE}", f"--pyi_out={scratch}", f"--descriptor_set_out={folder / MADE[0]}"]
        if protoc.main([*arguments, str(HERE / "agents.proto")]):
            sys.exit("agents.proto cannot be compiled; see above.")
        (folder / MADE[1]).write_bytes((Path(scratch) / "agents_pb2.pyi").read_bytes())


if __name__ == "__main__":
    generate(HERE)
