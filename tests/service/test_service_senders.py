"""What callers send costs the server little, whatever it is: wishes with odd fields, zip files, large bodies."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import time
import zipfile
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from gristmill.api.loading import load_builtin
from gristmill.errors import ServerUnreachable, UsageError
from gristmill.service.doors.roles import CALLER, Caller, Role
from gristmill.service.routes.requests import MAX_REQUEST_BYTES, body_of, form_of, json_in
from gristmill.service.submission.asking import _modules_in
from gristmill.service.submission.turns import Room, Turns
from gristmill.service.submission.wishes import WrongWish, wish_of, wish_of_form

ANN, BOB = Caller("ann", Role.SUBMITTER), Caller("bob", Role.SUBMITTER)
WISH = {"job": "wordcount", "inputs": ["/in"], "output": "/out"}


@pytest.mark.parametrize(
    "data",
    [
        {f"[{n}": 0 for n in range(200_000)},
        {**WISH, "options": {f"[{n}": 0 for n in range(200_000)}},
        {**WISH, "params": {f"[{n}": {} for n in range(200_000)}},
        {**WISH, "params": {f"[{n}": {} for n in range(1000)}},
        {**WISH, "inputs": [0] * 10_000},
        {**WISH, "x" * 5_000_000: 0},
    ],
)
def test_a_wish_with_very_many_odd_fields_is_refused_at_once(data: dict[str, Any]) -> None:
    began = time.process_time()
    with pytest.raises(WrongWish) as wrong:
        wish_of(data)
    assert time.process_time() - began < 2  # it was minutes
    assert len(wrong.value.fields) <= 20 and len(str(wrong.value)) < 100_000


@pytest.mark.parametrize("name", ["a\x9b2J", "a\u202eb", "a\u2066b", "a\x85b", "a\u2028b", "a\nb"])
def test_names_do_not_command_terminals_nor_turn_text(name: str) -> None:
    with pytest.raises(WrongWish) as wrong:
        wish_of({**WISH, "name": name})
    assert list(wrong.value.fields) == ["name"]
    assert wish_of({**WISH, "name": "Zählung 数える"}).name == "Zählung 数える"


@pytest.mark.parametrize(
    ("request_field", "other"),
    [({"params": []}, ("set", "a=b")), ({"inputs": "/in"}, ("inputs", "/x")), ({"options": []}, ("reducers", "3"))],
)
def test_a_form_that_says_two_things_is_refused(request_field: dict[str, Any], other: tuple[str, str]) -> None:
    with pytest.raises(WrongWish):
        wish_of_form([("request", json.dumps({**WISH, **request_field})), other])


def test_a_pattern_is_short() -> None:
    load_builtin("grep", {"pattern": "a" * 4096})
    with pytest.raises(UsageError, match="at most 4,096"):
        load_builtin("grep", {"pattern": "a" * 4097})


def archive(members: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for number in range(members):
            made.writestr(f"m{number}.py", b"")
    return file.getvalue()


def test_the_table_of_a_zip_file_is_read_only_if_it_is_small() -> None:
    assert _modules_in(archive(3)) == ["m0", "m1", "m2"]
    with pytest.raises(WrongWish, match="10,001 files"):
        _modules_in(archive(10_001))
    # A table of 60 MiB, which says that it has one entry.
    table = b"PK\x01\x02" + bytes(60 * 2**20)
    with pytest.raises(WrongWish, match="table of 60"):
        _modules_in(table + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(table), 0, 0))
    # Likewise, in the record for large files that stands before the one for all.
    large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(table), 0)
    place = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(table), 1)
    with pytest.raises(WrongWish, match="table of 60"):
        _modules_in(table + large + place + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 46, 0, 0))
    with pytest.raises(WrongWish, match="not a zip file"):
        _modules_in(b"no")


def test_bodies_have_room_for_each_user_and_in_all() -> None:
    room = Room(in_all=100, of_a_user=60)
    with room.hold(ANN) as ann, room.hold(ANN) as also_ann, room.hold(BOB) as bob:
        ann(40)
        with pytest.raises(ServerUnreachable, match="Try again"):
            also_ann(21)
        also_ann(20)
        bob(40)
        with pytest.raises(ServerUnreachable):
            bob(1)
    assert not room._users


def request_of(caller: Caller, chunks: list[bytes], kind: str, said: int | None = None) -> Request:
    headers = [(b"content-type", kind.encode())]
    if said is not None:
        headers.append((b"content-length", str(said).encode()))
    left = iter(chunks)

    async def receive() -> dict[str, Any]:
        chunk = next(left, b"")
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b"", CALLER: caller}
    return Request(scope, receive)


@pytest.mark.parametrize("said", [None, MAX_REQUEST_BYTES + 1])
def test_a_body_is_read_up_to_its_limit_and_gives_its_room_back(said: int | None) -> None:
    async def read(turns: Turns, chunks: list[bytes]) -> Any:
        async with body_of(request_of(ANN, chunks, "application/json", said), MAX_REQUEST_BYTES, turns) as body:
            assert turns.room._users == {"ann": len(body)}
            return json_in(body)

    turns = Turns()
    with pytest.raises(HTTPException) as refused:
        asyncio.run(read(turns, [bytes(2**20)] * 17))
    assert refused.value.status_code == 413
    if said is None:
        assert asyncio.run(read(turns, [b'{"a"', b": 1}"])) == {"a": 1}
    assert not turns.room._users


def test_forms_have_room_and_limits() -> None:
    async def read(turns: Turns, kind: str, chunks: list[bytes]) -> Any:
        async with form_of(request_of(ANN, chunks, kind), turns) as form:
            assert turns.room._users == {"ann": sum(map(len, chunks))}
            return form

    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    turns, multipart, encoded = Turns(), "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"
    assert asyncio.run(read(turns, multipart, [part % (b"job", b"x"), b"--x--\r\n"])) == ([("job", "x")], None)
    assert asyncio.run(read(turns, encoded, [b"job=x&name="])) == ([("job", "x"), ("name", "")], None)
    for kind, chunks, status in (
        (multipart, [part % (b"a", bytes(2**20 - 1))] * 9 + [b"--x--\r\n"], 413),
        (encoded, [b"a=b&" * 2**18] * 2, 413),
        (encoded, [b"a&" * 20_001], 400),
    ):
        with pytest.raises(HTTPException) as refused:
            asyncio.run(read(turns, kind, chunks))
        assert refused.value.status_code == status
    turns.room = Room(in_all=10)
    with pytest.raises(ServerUnreachable):
        asyncio.run(read(turns, multipart, [part % (b"job", b"x"), b"--x--\r\n"]))
    assert not turns.room._users
