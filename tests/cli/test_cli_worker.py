"""What a worker makes of its command line before it asks any server: who reads its blocks, what tasks may take."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from gristmill.cli.limits import as_arguments
from gristmill.cli.main import main
from gristmill.cli.serve import serve
from gristmill.cli.worker import worker
from gristmill.config import GIB
from gristmill.errors import ServerUnreachable
from gristmill.runtime.process.whereabouts import address_towards

ELSEWHERE = ("--host", "192.0.2.7")


def said_by(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str, *options: str) -> str:
    """What a worker says that has no token, so that it gets no further than that."""
    missing = str(tmp_path / "no-token")
    assert main(["worker", url, "--token-file", missing, "--data-dir", str(tmp_path / "data"), *options]) == 2
    return capsys.readouterr().err


def test_blocks_do_not_leave_the_machine_in_the_clear_if_the_server_speaks_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_by(capsys, tmp_path, "https://127.0.0.1:9", *ELSEWHERE)
    assert "blocks at 192.0.2.7 in the clear" in said and "--tls-cert" in said and "--insecure" in said
    for options in ((), (*ELSEWHERE, "--insecure"), ("--host", "localhost")):
        said = said_by(capsys, tmp_path, "https://127.0.0.1:9", *options)
        assert "no-token" in said and "in the clear" not in said


def test_a_server_elsewhere_is_reached_by_an_address_that_others_see(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        address = address_towards("192.0.2.1")
    except ServerUnreachable:
        pytest.skip("this machine has no network")
    assert f"blocks at {address} in the clear" in said_by(capsys, tmp_path, "https://192.0.2.1:9")


def test_a_server_without_tls_elsewhere_is_worth_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_by(capsys, tmp_path, "http://127.0.0.1:9", *ELSEWHERE)
    assert said.count("in the clear") == 1 and "no-token" in said
    for options in ((), (*ELSEWHERE, "--insecure")):
        assert "in the clear" not in said_by(capsys, tmp_path, "http://127.0.0.1:9", *options)


@pytest.mark.parametrize(
    ("given", "limit", "argument"),
    [
        ((), 64 * GIB, f"--max-file-size={64 * GIB}"),
        (("--max-file-size", "1GiB"), GIB, f"--max-file-size={GIB}"),
        (("--max-file-size", "none"), None, "--max-file-size=none"),
    ],
)
def test_files_of_tasks_have_a_limit_unless_it_is_turned_off(
    given: tuple[str, ...], limit: int | None, argument: str
) -> None:
    assert worker.make_context("worker", ["http://localhost:1", *given]).params["max_file_size"] == limit
    params = serve.make_context("serve", list(given)).params
    named = {name: params[name] for name in ("max_processes", "max_file_size", "pass_env", "drop_env")}
    [passed] = as_arguments(named)  # to the server's own worker
    assert passed == argument
    assert worker.make_context("worker", ["http://localhost:1", passed]).params["max_file_size"] == limit


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(click.BadParameter):
        worker.make_context("worker", ["http://localhost:1", "--max-file-size", "lots"])
