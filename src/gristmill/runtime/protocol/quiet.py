"""gRPC, which is told to be quiet before it is loaded: it writes to stderr how each connection ends, if not."""

from gristmill.runtime.process.environment import set_for_this_process

set_for_this_process("GRPC_VERBOSITY", "ERROR")  # user code that uses gRPC is to hear what it would hear elsewhere

import grpc  # noqa: E402 - what is set above is read when it is loaded

__all__ = ["grpc"]
