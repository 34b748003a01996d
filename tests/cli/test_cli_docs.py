"""The documents say what is true of the commands, and their code runs."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

import gristmill

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROSE = [ROOT / "README.md", DOCS / "tutorial.md", DOCS / "how-to.md"]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", DOCS / "cli_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(reference: ModuleType) -> None:
    written = reference.TARGET.read_text(encoding="utf-8")
    assert written == reference.render(), "run: python docs/cli_reference.py"


def test_every_command_and_option_is_documented(reference: ModuleType) -> None:
    page = reference.TARGET.read_text(encoding="utf-8")
    for name, command in reference.commands():
        assert f"\n## {name}\n" in page
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"
                assert all(option in page for option in parameter.opts)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_commands_and_options_in_prose_exist(reference: ModuleType, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    known = {option for _, command in reference.commands() for param in command.params for option in param.opts}
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
        assert option in known, option
    for command in set(re.findall(r"^(?:\$ )?gristmill ([a-z-]+)", text, re.MULTILINE)):
        assert command in {name.split()[1] for name, _ in reference.commands() if " " in name}, command


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_the_ten_lines_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, from_python = blocks(ROOT / "README.md")
    namespace: dict[str, object] = {"__name__": "wordcount"}
    exec(compile(job, "wordcount.py", "exec"), namespace)
    (tmp_path / "FILES").write_text("b a\nb\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRISTMILL_DATA_DIR", str(tmp_path / "data"))
    printed: list[tuple[object, ...]] = []
    namespace["print"] = lambda *words: printed.append(words)
    exec(from_python, namespace)
    assert printed == [("a", 1), ("b", 2)]


def test_the_jobs_of_the_tutorial_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gristmill.cli.access_log import lines

    (tmp_path / "access.log").write_text("".join(lines(2000)))
    monkeypatch.chdir(tmp_path)
    first, combiner, counting, two_steps = blocks(DOCS / "tutorial.md")
    results = []
    for source in (first, first + "\n" + combiner, first + "\n" + counting, two_steps):
        namespace: dict[str, object] = {"__name__": "tutorial"}
        exec(compile(source, "job.py", "exec"), namespace)
        (job,) = [v for v in namespace.values() if isinstance(v, type) and v is not gristmill.MapReduce]
        assert issubclass(job, gristmill.MapReduce)
        with job.run("access.log", on="inline", data_dir=tmp_path / "data") as result:
            results.append(list(result))
    hits = results[0]
    assert hits == results[1] == results[2]
    assert results[3] == [(path, n) for n, path in sorted(((n, path) for path, n in hits), reverse=True)[:10]]
