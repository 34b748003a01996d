"""Settings: what a file, the environment and the command line say, who wins, and what is wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill.cli.main import main

JOB = """
def mapper(_, line):
    yield line, 1
"""
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with nothing set, in a project below the home."""
    for name in list(os.environ):
        if name.startswith("GRISTMILL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    (tmp_path / "project" / "sub").mkdir(parents=True)
    (tmp_path / ".config" / "gristmill").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "sub")
    return tmp_path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def write(home: Path, *, project: str = "", user: str = "") -> None:
    for folder, text in ((home / "project", project), (home / ".config" / "gristmill", user)):
        if text:
            (folder / "gristmill.toml").write_text(text)


def effective(say: Say, *command: str) -> dict[str, dict[str, Any]]:
    code, out, err = say("config", "--json", *command)
    assert code == 0, err
    return {f"{each['section']}.{each['key']}": each for each in json.loads(out)["settings"]}


def test_the_later_wins(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        home,
        user='[run]\nreducers = 1\nsplit-size = "1MiB"\nmax-attempts = 1\npriority = 1\n',
        project='[run]\nsplit-size = "2MiB"\nmax-attempts = 2\npriority = 2\n',
    )
    monkeypatch.setenv("GRISTMILL_RUN_MAX_ATTEMPTS", "3")
    monkeypatch.setenv("GRISTMILL_RUN_PRIORITY", "3")
    found = effective(say, "run", "--priority", "4", "job.py", "in.txt")
    assert [found[f"run.{key}"]["value"] for key in ("reducers", "split-size", "max-attempts", "priority")] == [
        1, "2MiB", 3, 4,
    ]  # fmt: skip
    origins = [found[f"run.{key}"]["origin"] for key in ("reducers", "split-size", "max-attempts", "priority", "json")]
    assert origins == ["file", "file", "environment", "option", "default"]
    assert found["run.split-size"]["file"] == str(home / "project" / "gristmill.toml")
    assert found["run.split-size"]["line"] == 2
    assert found["run.max-attempts"]["variable"] == "GRISTMILL_RUN_MAX_ATTEMPTS"


def test_a_run_is_as_its_settings_say(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "project" / "sub" / "job.py").write_text(JOB)
    (home / "project" / "sub" / "in.txt").write_text("b\na\n")
    write(home, project='data-dir = "data"\n[run]\non = "inline"\nreducers = 2\njson = true\noverwrite = true\n')
    code, out, err = say("run", "job.py", "in.txt", "-o", "out")
    assert code == 0, err
    assert json.loads(out)["reduce_tasks"] == 0
    assert json.loads(out)["state"] == "succeeded"
    monkeypatch.setenv("GRISTMILL_RUN_JSON", "no")
    assert say("run", "job.py", "in.txt", "-o", "out")[:2] == (0, "")
    assert (home / "project" / "data").is_dir()  # relative to the file


def test_the_command_of_a_job_of_its_own_has_the_settings_of_run(home: Path) -> None:
    folder = home / "project" / "sub"
    (folder / "job.py").write_text(
        "from gristmill import MapReduce\nclass Copy(MapReduce):\n    def mapper(self, _, line):\n"
        "        yield line, self.params['sign']\nif __name__ == '__main__':\n    Copy.main()\n"
    )
    (folder / "in.txt").write_text("a\n")
    write(home, project='[run]\non = "inline"\nset = { sign = 7 }\n')
    done = subprocess.run(
        [sys.executable, "job.py", "in.txt"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "a\t7\n"


def test_shared_settings_are_those_of_every_command_that_has_the_option(
    home: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        home,
        project='server = "http://one:7077"\ntoken-file = "team"\ndata-dir = "data"\n'
        '[jobs]\nserver = "http://two:7077"\n',
    )
    jobs, status = effective(say, "jobs"), effective(say, "status")
    assert jobs["jobs.server"]["value"] == "http://two:7077"
    assert status["status.server"]["value"] == "http://one:7077"
    assert status["status.token-file"]["value"] == str(home / "project" / "team")
    serve = effective(say, "serve")
    assert serve["serve.data-dir"]["value"] == str(home / "project" / "data")
    assert serve["serve.token-file"]["origin"] == "default"  # what it asks for is not what it shows to others
    assert effective(say, "run")["run.on"]["value"] == "local"
    assert effective(say, "worker")["worker.data-dir"]["value"] == [str(home / "project" / "data")]
    monkeypatch.setenv("GRISTMILL_SERVER", "http://three:7077")
    assert effective(say, "status")["status.server"]["value"] == "http://three:7077"
    assert effective(say, "jobs")["jobs.server"]["value"] == "http://three:7077"
    monkeypatch.setenv("GRISTMILL_TOKEN", "abc")
    assert effective(say, "jobs")["jobs.token-file"]["origin"] == "default"  # the variable is stronger than the file


def test_what_is_printed_is_a_file_that_says_the_same(home: Path, say: Say) -> None:
    text = '[run]\nreducers = 4\nspeculation = false\nset = { title = "two \\"words\\"", n = 3 }\npy-files = ["a.py"]\n'
    write(home, project=text)
    _, printed, _ = say("config", "--origin")
    before = effective(say)
    (home / "project" / "gristmill.toml").write_text(printed)
    after = effective(say)
    assert {key: each["value"] for key, each in before.items()} == {key: each["value"] for key, each in after.items()}
    assert after["run.set"]["value"] == ['title=two "words"', "n=3"]
    assert f"reducers = 4  # {home}/project/gristmill.toml:2" in printed
    assert "# split-size: by the input's size, at most 64MiB (default)" in printed


def test_where_settings_come_from_can_be_asked_before_the_command_or_behind_it(home: Path, say: Say) -> None:
    write(home, project='[submit]\ndeadline = "2h"\n')
    printed = say("config", "--origin", "submit", "--reducers", "3")
    assert printed[0] == 0 and "# option" in printed[1] and "gristmill.toml:2" in printed[1]
    assert say("config", "submit", "--reducers", "3", "--origin") == printed


def test_what_kubernetes_sets_for_a_service_is_explained(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_SERVE_PORT", "tcp://10.96.0.17:7077")
    for arguments in (("serve",), ("config", "serve")):
        code, _, err = say(*arguments)
        said = " ".join(err.split())
        assert code == 2 and "GRISTMILL_SERVE_PORT" in said, arguments
        assert "Service named gristmill-serve" in said and "enableServiceLinks: false" in said, arguments
    monkeypatch.setenv("GRISTMILL_SERVE_PORT", "many")
    assert "Kubernetes" not in say("serve")[2]


def test_secrets_are_not_shown(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        home,
        project='server = "https://me:sesame@mill:7077/?token=sesame"\n[run.set]\napi_key = "sesame"\npath = "shown"\n'
        '[serve]\nopenlineage = "https://sesame@host/api#sesame"\nwebhook = "https://a:se/sesame@host/x"\n'
        'smtp-url = "smtp://me@mail"\n[submit]\noutput = "s3://key:ses/sesame@bucket/x"\n'
        '[wait]\nserver = "https://[sesame"\n',
    )
    monkeypatch.setenv("GRISTMILL_TOKEN", "sesame")
    for arguments in (("config", "--origin"), ("config", "--json"), ("config", "run", "--set", "password=sesame")):
        code, out, err = say(*arguments)
        assert code == 0 and "sesame" not in out + err, arguments
        assert "******" in out


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("server = \n", 0, "is not TOML"),
        ("[runn]\n", 1, "Did you mean 'run'?"),
        ("\nreducers = 4\n", 2, "Write it below [run]."),
        ("run = 3\n", 1, "write [run]"),
        ("[run]\nreducers = 'four'\n", 2, "reducers: 'four' is not a whole number."),
        ("[run]\nreducers = true\n", 2, "reducers: 'true' is not a whole number."),
        ("[run]\nreducers = 0\n", 2, "reducers: 0 is not in the range"),
        ("[run]\nreducer = 4\n", 2, "Did you mean 'reducers'?"),
        ("[run]\n\nsplit_size = '1MiB'\n", 3, "Did you mean 'split-size'?"),
        ("[run]\nsplit-size = 'lots'\n", 2, "such as 64MiB"),
        ("[run]\ntask-timeout = 'soon'\n", 2, "such as 10s"),
        ("[run]\nspeculation = 'no'\n", 2, "'no' is not true or false."),
        ("[run]\non = 'moon'\n", 2, "inline, local"),
        ("[run]\nset = [\n  'a'\n]\n", 2, "'a' is not KEY=VALUE."),
        ("note = '''\n[run]\nreducers = 1\n'''\n", 1, "there is no section and no shared setting 'note'"),
        ("[run]\nexecutors = 1\n[run.set]\na = 1\n[other]\n", 5, "no shared setting 'other'"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(home: Path, say: Say, text: str, line: int, words: str) -> None:
    write(home, project=text)
    code, out, err = say("run", "job.py", "in.txt")
    assert (code, out) == (2, "")
    path = home / "project" / "gristmill.toml"
    assert (f"{path}:{line}: " if line else f"{path} ") in err
    assert words in err
    assert say("run", "--help")[0] == 0  # helps all the same


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("REDUCERS", "many", "'many' is not a valid integer"),
        ("SPECULATION", "perhaps", "'perhaps' is not true or false."),
        ("SPLIT_SIZE", "lots", "such as 64MiB"),
        ("SET", "'open", "No closing quotation"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(
    home: Path, say: Say, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"GRISTMILL_RUN_{name}", value)
    code, _, err = say("run", "job.py", "in.txt")
    assert code == 2 and f"environment GRISTMILL_RUN_{name}: " in err and words in err


def test_a_variable_that_is_no_setting_is_pointed_out(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRISTMILL_RUN_REDUCER", "4")
    code, _, err = say("config")
    assert code == 0 and "GRISTMILL_RUN_REDUCER is no setting. Did you mean 'GRISTMILL_RUN_REDUCERS'?" in err


def test_commands_below_commands_have_sections_below_sections(
    home: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, project='data-dir = "data"\n[token.add]\nrole = "viewer"\n')
    code, out, err = say("token", "add", "ada")
    assert code == 0 and len(out.strip()) > 20, err
    assert effective(say, "token")["token.add.role"]["origin"] == "file"
    monkeypatch.setenv("GRISTMILL_TOKEN_ADD_ROLE", "submitter")
    assert effective(say, "token")["token.add.role"]["value"] == "submitter"
    assert say("token", "add", "bob")[0] == 0
    listed = say("token", "list")[1]
    assert "ada" in listed and "viewer" in listed and "submitter" in listed
    write(home, project="[token.add]\nrule = 'viewer'\n")
    code, _, err = say("token", "add", "eve")
    assert code == 2 and "[token.add] has no setting 'rule'. Did you mean 'role'?" in err


def test_several_values_of_a_variable_are_written_as_on_a_command_line(
    home: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRISTMILL_RUN_SET", "a=1 'title=two words'")
    assert effective(say, "run")["run.set"]["value"] == ["a=1", "title=two words"]
    monkeypatch.setenv("GRISTMILL_DATA_DIR", "/one folder")  # of all commands: of most it is one
    assert effective(say, "worker")["worker.data-dir"]["value"] == ["/one folder"]
    monkeypatch.setenv("GRISTMILL_WORKER_DATA_DIR", "/one '/and another'")
    assert effective(say, "worker")["worker.data-dir"]["value"] == ["/one", "/and another"]


def test_files_of_others_are_not_read(home: Path, say: Say) -> None:
    path = home / "project" / "gristmill.toml"
    write(home, project="[run]\nreducers = 4\n", user="[run]\nreducers = 1\n")
    path.chmod(0o666)
    code, out, err = say("config", "run")
    assert code == 0 and "reducers = 1\n" in out
    assert f"{path} is not read: everybody may write to it" in err


def test_which_file_is_read(home: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home / "other.toml"
    other.write_text("[run]\nreducers = 9\n")
    write(home, project="[run]\nreducers = 4\n")
    (home.parent / "gristmill.toml").write_text("[runn]\n")  # above the home nothing is looked for
    try:
        assert effective(say, "run")["run.reducers"]["value"] == 4
        monkeypatch.setenv("GRISTMILL_CONFIG", str(other))
        assert effective(say, "run")["run.reducers"]["value"] == 9
        monkeypatch.setenv("GRISTMILL_CONFIG", "")
        assert effective(say, "run")["run.reducers"]["value"] is None
        monkeypatch.setenv("GRISTMILL_CONFIG", str(home / "missing.toml"))
        code, _, err = say("config")
        assert code == 2 and "missing.toml cannot be read" in err
    finally:
        (home.parent / "gristmill.toml").unlink()


def test_without_a_file_nothing_is_parsed() -> None:
    code = "import sys, gristmill.cli.main as m; m.main(['config', 'jobs']); print(*sys.modules)"
    environ = {**os.environ, "GRISTMILL_CONFIG": ""}
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=environ
    ).stdout
    assert {"tomllib", "pydantic", "rich", "pyarrow"}.isdisjoint(out.split())


def test_what_is_set_for_all_runs_is_left_out_where_it_does_not_suit(home: Path, say: Say) -> None:
    folder = home / "project" / "sub"
    (folder / "job.py").write_text(JOB)
    (folder / "in.txt").write_text("a\n")
    (folder / "script.py").write_text("import gristmill as gm\nprint(gm.read_text('in.txt').count())\n")
    write(home, project='[run]\non = "inline"\njson = true\noverwrite = true\noutput-format = "jsonl"\n')
    assert say("run", "job.py", "in.txt")[:2] == (0, "a\t1\n")
    assert say("run", "script.py")[:2] == (0, "1\n")
    code, _, err = say("run", "--json", "job.py", "in.txt")
    assert code == 2 and "--json needs -o" in err
