"""The rooms import in one direction, libraries stay where they belong, and ``import gristmill`` stays cheap."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

from import_rules import (
    EVERYONE,
    EXCEPTIONS,
    FLOORS,
    LIBRARIES,
    ROOMS,
    SLOW,
    SOURCE,
    Import,
    all_imports,
    floor_of,
    imports_of,
    room_of,
)


@cache
def everything() -> tuple[Import, ...]:
    return tuple(all_imports())


def test_rooms_import_only_what_they_may() -> None:
    wrong = []
    for found in everything():
        if found.module.split(".")[0] != "gristmill":
            continue
        room = room_of(f"gristmill.{found.file}".replace("/", ".").removesuffix(".py"))
        target = room_of(found.module)
        allowed = {room, *EVERYONE, *ROOMS[room], EXCEPTIONS.get((found.file, found.function))}
        if target not in allowed or (room == "errors" and target != "errors"):
            wrong.append(f"{found.file}:{found.line} imports {found.module}: {room} may not import {target}")
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert rooms | modules == ROOMS.keys() - {"gristmill"}


@pytest.mark.parametrize("table", [ROOMS, FLOORS])
def test_the_table_has_no_circle(table: dict[str, tuple[str, ...]]) -> None:
    order: list[str] = []
    while len(order) < len(table):
        free = [room for room, imports in table.items() if room not in order and set(imports) <= set(order)]
        assert free, f"these import each other: {table.keys() - set(order)}"
        order += free


def test_folders_of_the_runtime_import_only_what_they_may() -> None:
    folders = {path.name for path in (SOURCE / "runtime").iterdir() if (path / "__init__.py").exists()}
    assert folders == FLOORS.keys()
    wrong = []
    for found in everything():
        floor = floor_of(f"gristmill.{found.file}".replace("/", ".").removesuffix(".py"))
        target = floor_of(found.module)
        if floor and target and target not in (floor, *FLOORS[floor]):
            wrong.append(f"{found.file}:{found.line} imports {found.module}: {floor} may not import {target}")
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_used() -> None:
    used = {(found.file, found.function, room_of(found.module)) for found in everything()}
    assert {(*where, room) for where, room in EXCEPTIONS.items()} <= used


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = [
        f"{found.file}:{found.line} imports {found.module}, which belongs into {', '.join(places)}"
        for found in everything()
        for library, places in LIBRARIES.items()
        if f"{found.module}.".startswith(f"{library}.") and not found.file.startswith(places)
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_the_package_loads_nothing_slow() -> None:
    code = f"import sys, gristmill; print(*[name for name in {SLOW!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_the_scanner_sees_every_form_of_import() -> None:
    text = """
import ray.util
from pyarrow import flight, compute
from gristmill import plan, MapReduce
from . import wire
from ..plan.stages import Stage
class A:
    def m(self):
        if True:
            from gristmill.cli import run
"""
    found = [(each.function, each.module) for each in imports_of("runtime/task.py", text)]
    assert found == [
        ("", "ray.util"),
        ("", "pyarrow.flight"),
        ("", "pyarrow"),
        ("", "gristmill.plan"),
        ("", "gristmill"),
        ("", "gristmill.runtime"),
        ("", "gristmill.plan.stages"),
        ("A.m", "gristmill.cli"),
    ]
    assert [room_of(module) for _, module in found[3:]] == ["plan", "gristmill", "runtime", "plan", "cli"]
