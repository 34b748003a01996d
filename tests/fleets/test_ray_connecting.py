"""How jobs get to a Ray: their own, the user's, or one that is named; and that they leave no trace of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from cluster_jobs import WordCount, write_words
from ray_kit import RayCluster, free_port, needs_ray, ray_marks

import gristmill as gm
from gristmill.errors import RayUnreachable, UsageError

PATIENCE = 110
SLOW = re.compile(r"Ray has no room yet for 1 of 1 actors \(\d CPUs?\): .*")  # said where the machine is very busy
KIT = Path(__file__).parent
COMMAND = "from gristmill.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"


class Place:
    """A home of its own, in which programs are run that know of no Ray."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.variables |= {"HOME": str(self.home), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(KIT)}

    def start(self, code: str, *arguments: object, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.variables | more,
            cwd=self.folder,
            text=True,
        )

    def run(self, code: str, *arguments: object, **more: str) -> tuple[int, str, str]:
        """A program's exit code, and what it printed."""
        with self.start(code, *arguments, **more) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        return process.returncode, out, err


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


TWO_AT_A_TIME = """
    import os, signal, sys
    from pathlib import Path
    import psutil
    import gristmill as gm

    variables, at_term = dict(os.environ), signal.getsignal(signal.SIGTERM)
    data = sys.argv[1]
    with gm.Session(on="ray", executors=2, data_dir=data) as one:
        assert one.range(10).map(lambda n: n * n).sum() == 285
        from ray import nodes
        own = nodes()[0]["NodeID"]
        with gm.Session(on="ray", executors=1, data_dir=data) as other:
            assert other.range(5).collect() == [0, 1, 2, 3, 4]
            assert nodes()[0]["NodeID"] == own
            assert dict(os.environ) == variables
            paths = {one.environ().get("RAY_AUTH_TOKEN_PATH") for one in psutil.Process().children()}
            [token] = map(Path, paths)
            assert token.stat().st_mode & 0o777 == 0o600 and token.parents[1].stat().st_mode & 0o777 == 0o700
        assert one.range(3).count() == 3
    assert not token.parent.exists()
    assert dict(os.environ) == variables
    assert signal.getsignal(signal.SIGTERM) == at_term
    import ray
    assert not ray.is_initialized()
    for round in range(int(sys.argv[2])):
        with gm.Session(on="ray", executors=1, data_dir=data) as again:
            assert again.range(4).count() == 4
    left = [path.name for path in Path(data, "ray").glob("gristmill-*")]
    assert not left, left
    print("done")
"""


@needs_ray
@pytest.mark.parametrize("more", [0, pytest.param(1, marks=pytest.mark.soak)])
def test_a_ray_of_our_own_is_shared_and_leaves_nothing(place: Place, tmp_path: Path, more: int) -> None:
    code, out, err = place.run(TWO_AT_A_TIME, tmp_path / "data", more)
    said = [line for line in err.splitlines() if not SLOW.fullmatch(line)]
    assert (code, out, said) == (0, "done\n", [])
    assert not (place.home / ".ray").exists()


OPEN = """
    import sys
    import psutil
    import gristmill as gm
    with gm.Session(on="ray", executors=1, data_dir=sys.argv[1]) as session:
        assert session.range(3).count() == 3
        import ray
        tokens = {one.environ()["RAY_AUTH_TOKEN_PATH"] for one in psutil.Process().children()}
        print(ray.get_runtime_context().gcs_address, *tokens, flush=True)
        sys.stdin.read()
"""

KNOCK = """
    import logging, sys, ray
    try:
        ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ray.exceptions.RayError):
        print("refused")
    else:
        print("let in")
"""


@needs_ray
@pytest.mark.soak
def test_nobody_without_the_token_is_let_in_by_a_ray_of_our_own(place: Place, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("1" * 64)
    with place.start(OPEN, tmp_path / "data") as host:
        try:
            assert host.stdout is not None
            address, token = host.stdout.readline().split()
            few = {"RAY_gcs_server_port_wait_time_s": "2"}  # tries, a second apart
            doors = [
                {},
                *({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": f"{at}"} for at in (tmp_path / "wrong", token)),
            ]
            said = [place.run(KNOCK, address, **few, **door)[:2] for door in doors]
            out, err = host.communicate(timeout=PATIENCE)
        finally:
            host.kill()
    assert said == [(0, "refused\n"), (0, "refused\n"), (0, "let in\n")]
    assert (host.returncode, out, err) == (0, "", "")


NEVER_CLOSED = """
    import sys
    import gristmill as gm
    session = gm.Session(on="ray", executors=1, data_dir=sys.argv[1])
    print(session.range(10).count())
"""


@needs_ray
@pytest.mark.soak
def test_a_session_that_nobody_closes_ends_with_the_program(place: Place, tmp_path: Path) -> None:
    code, out, err = place.run(NEVER_CLOSED, tmp_path / "data")
    assert (code, out, err) == (0, "10\n", "")
    assert not list((tmp_path / "data" / "ray").glob("gristmill-*"))


FORKS = """
    import os, sys
    import gristmill as gm
    with gm.Session(on="ray", executors=1, data_dir=sys.argv[1]) as session:
        assert session.range(10).count() == 10
        child = os.fork()
        if not child:
            try:
                gm.Session(on="ray", executors=1, data_dir=sys.argv[1]).range(3).count()
            except gm.errors.UsageError as error:
                print(error, flush=True)
            session.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert session.range(10).count() == 10
"""


@needs_ray
@pytest.mark.soak
def test_a_fork_leaves_its_parents_ray_alone(place: Place, tmp_path: Path) -> None:
    code, out, err = place.run(FORKS, tmp_path / "data")
    assert code == 0, err
    assert "a fork of one that was connected to Ray" in out


OTHER_INSIDES = """
    import sys
    import ray._private.parameter
    import gristmill as gm

    known = ray._private.parameter.RayParams

    def older(*given, **named):
        if "no_monitor" in named:
            raise TypeError("no_monitor")
        return known(*given, **named)

    ray._private.parameter.RayParams = older
    with gm.Session(on="ray", executors=1, data_dir=sys.argv[1]) as session:
        print(session.range(10).count())
"""


@needs_ray
@pytest.mark.soak
def test_a_ray_with_other_insides_is_started_as_anybody_would(place: Place, tmp_path: Path) -> None:
    code, out, err = place.run(OTHER_INSIDES, tmp_path / "data")
    assert (code, out, err) == (0, "10\n", "")
    assert not (place.home / ".ray").exists()


LATE = """
    import sys
    import psutil
    import ray._private.node
    import gristmill as gm

    def start_raylet(node, *given, **named):
        assert psutil.Process().children(recursive=True)
        raise AttributeError("late")

    ray._private.node.Node.start_raylet = start_raylet
    with gm.Session(on="ray", executors=1, data_dir=sys.argv[1]) as session:
        try:
            session.range(3).count()
        except gm.errors.GristmillError as error:
            print(error)
    print([process.cmdline() for process in psutil.Process().children(recursive=True)])
"""


@needs_ray
@pytest.mark.soak
def test_a_ray_that_comes_up_by_half_is_ended(place: Place, tmp_path: Path) -> None:
    code, out, err = place.run(LATE, tmp_path / "data")
    assert (code, out, err) == (0, "Ray does not start: late\n[]\n", "")
    assert not list((tmp_path / "data" / "ray").glob("gristmill-*"))


IN_A_THREAD = """
    import sys, threading
    import gristmill as gm
    session = gm.Session(on="ray", executors=1, data_dir=sys.argv[1])
    thread = threading.Thread(target=lambda: print(session.range(10).count(), flush=True))
    thread.start()
    thread.join()
    print(session.range(11).count())
    session.close()
"""


@needs_ray
@pytest.mark.soak
def test_a_ray_of_our_own_outlives_the_thread_that_asked_for_it(place: Place, tmp_path: Path) -> None:
    code, out, err = place.run(IN_A_THREAD, tmp_path / "data")
    assert (code, out, err) == (0, "10\n11\n", "")


@needs_ray
@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_a_job_on_a_ray_of_our_own(place: Place, tmp_path: Path, number: signal.Signals) -> None:
    path, _ = write_words(tmp_path)
    begun = tmp_path / "begun"
    begun.mkdir()
    job = [f"{KIT / 'cluster_jobs.py'}:SlowMaps", path, "-o", tmp_path / "out", "--on", "ray", "--executors", 1]
    sets = ["--data-dir", tmp_path / "data", "--set", f"folder={begun}", "--set", "gate=1"]
    process = place.start(COMMAND, "run", *job, *sets)
    with process:
        deadline = time.monotonic() + PATIENCE
        while not list(begun.glob("reduce-*")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == "" and "ray" not in err.lower() and "***" not in err and "was cancelled" in err.replace("\n", " ")
    assert not psutil.wait_procs(family, timeout=30)[1]
    assert not (tmp_path / "out").exists()


# What is not there.


def test_nothing_of_ray_is_imported_by_others(place: Place, tmp_path: Path) -> None:
    path, _ = write_words(tmp_path, lines=10)
    code, out, err = place.run(
        """
        import sys
        import gristmill.fleets.ray.fleet
        from cluster_jobs import WordCount
        WordCount.run(sys.argv[1], sys.argv[2], executors=1)
        print([name for name in sys.modules if name.partition(".")[0] == "ray"])
        """,
        path,
        tmp_path / "out",
    )
    assert (code, out, err) == (0, "[]\n", "")


def test_without_ray_it_is_said_how_to_get_it(place: Place, tmp_path: Path) -> None:
    path, _ = write_words(tmp_path, lines=10)
    (place.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class NoRay:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ray':\n"
        "            raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n"
        "sys.meta_path.insert(0, NoRay())\n"
    )
    job = ["run", f"{KIT / 'cluster_jobs.py'}:WordCount", path, "-o", tmp_path / "out", "--on", "ray"]
    code, out, err = place.run(COMMAND, *job, PYTHONPATH=str(place.folder))
    assert (code, out) == (2, "")
    assert err == "Error: Ray is not installed here. Install it with: pip install 'gristmill[ray]'\n"


@needs_ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_where_nobody_listens_that_is_said_at_once(place: Place, tmp_path: Path, scheme: str) -> None:
    path, _ = write_words(tmp_path, lines=10)
    address = f"{scheme}127.0.0.1:{free_port()}"
    on = address if scheme else "ray"
    job = ["run", f"{KIT / 'cluster_jobs.py'}:WordCount", path, "-o", tmp_path / "out", "--on", on]
    code, out, err = place.run(COMMAND, *job, RAY_ADDRESS=address)
    assert (code, out) == (75, "")
    assert err == f"Error: Nobody answers at {address}, where a Ray cluster is expected: Connection refused.\n"


@needs_ray
@pytest.mark.parametrize("address", ["nowhere", "ray://", "ray://host", "http://host:8265"])
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    path, _ = write_words(tmp_path, lines=10)
    with pytest.raises(UsageError, match=r"is no address of a Ray cluster. It is HOST:6379, or ray://HOST:10001"):
        WordCount.run(path, tmp_path / "out", on="ray")


# A cluster that is there.

TO_THE_CLUSTER = """
    import sys
    import gristmill as gm
    try:
        with gm.Session(on=sys.argv[1], data_dir=sys.argv[2]) as session:
            print(session.range(10).count())
    except gm.errors.GristmillError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.soak
@pytest.mark.usefixtures("ray_nodes")
class TestDoors:
    pytestmark = ray_marks

    @pytest.mark.parametrize("road", ["ray", "client"])
    @pytest.mark.parametrize("token", ["wrong", "none", "no mode"])
    def test_without_the_right_token_nobody_is_let_in(
        self, place: Place, tmp_path: Path, ray_nodes: RayCluster, road: str, token: str
    ) -> None:
        on = ray_nodes.client if road == "client" else "ray"
        (tmp_path / "token").write_text("1" * 64)
        variables = {"RAY_ADDRESS": ray_nodes.address}
        if token != "no mode":
            variables |= {"RAY_AUTH_MODE": "token"}
        if token == "wrong":
            variables |= {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
        began = time.monotonic()
        code, out, err = place.run(TO_THE_CLUSTER, on, tmp_path / "data", **variables)
        assert (code, err) == (0, ""), out
        assert out.startswith("RayUnreachable The Ray cluster at "), out
        assert "RAY_AUTH_MODE=token" in out and "RAY_AUTH_TOKEN_PATH" in out and "\n" not in out.strip()
        assert time.monotonic() - began < 60

    def test_the_users_connection_is_used_and_left(self, place: Place, tmp_path: Path, ray_nodes: RayCluster) -> None:
        code, out, err = place.run(
            """
            import logging, os, sys, ray
            import gristmill as gm
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL)
            del os.environ["RAY_ADDRESS"]
            with gm.Session(on="ray", data_dir=sys.argv[1]) as session:
                print(session.range(10).count())
            print(ray.is_initialized(), ray.get_runtime_context().gcs_address)
            try:
                gm.Session(on="ray://127.0.0.1:1", data_dir=sys.argv[1]).range(3).count()
            except gm.errors.UsageError as error:
                print(error)
            """,
            tmp_path / "data",
            **ray_nodes.variables,
        )
        assert code == 0, err
        assert out.splitlines()[:2] == ["10", f"True {ray_nodes.address}"]
        assert "This process is connected to another Ray already." in out


@pytest.mark.usefixtures("ray_nodes")
class TestOneAtATime:
    pytestmark = ray_marks

    def test_a_process_is_connected_to_one_ray(self, on_ray: RayCluster, tmp_path: Path) -> None:
        with gm.Session(on="ray", data_dir=tmp_path) as session:
            assert session.range(3).count() == 3
            with pytest.raises(UsageError, match=r"is connected to the Ray cluster at .* and to one Ray at a time"):
                gm.Session(on="ray://127.0.0.1:1", data_dir=tmp_path).range(3).count()
        with pytest.raises(RayUnreachable):
            gm.Session(on=f"ray://127.0.0.1:{free_port()}", data_dir=tmp_path).range(3).count()
