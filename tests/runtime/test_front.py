"""What a worker asks of the coordinator, when the answer is not one."""

from __future__ import annotations

import socket
import threading

import pytest

from gristmill.errors import ServerUnreachable
from gristmill.runtime.worker.front import Front

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it"


@pytest.mark.parametrize("answer", [HALF, b"what?\r\n", b""], ids=["half", "else", "none"])
def test_whoever_goes_away_while_answering_is_unreachable(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        front = Front(f"http://127.0.0.1:{listening.getsockname()[1]}", "token")
        with pytest.raises(ServerUnreachable):
            front.blob("0" * 64)
        thread.join(60)
