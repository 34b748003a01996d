"""The documents say what is true of commands, options, links, errors, formats and environment variables."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

from gristmill import config, errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PROSE = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("bench/*.md"))
    if ".generated." not in path.name
)


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
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.help, f"{name} {parameter.opts}"
                assert all(option in page for option in parameter.opts)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_commands_and_options_in_prose_exist(reference: ModuleType, path: Path) -> None:
    # The benchmarks are programs of their own, with options of their own; so are Ray and those around it.
    others = r"`((python )?bench/|ray )[^`]*`|(?m:^(ray|kubectl|docker|pip) .*$)"
    text = re.sub(others, "", path.read_text(encoding="utf-8"))
    options = [param for _, command in reference.commands() for param in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    known |= {"--working-dir", "--object-spilling-directory"}  # Ray's
    if path.name == "RESULTS.md":
        known.add("--again")  # of bench/soak.py
    if path.name == "scale.md":  # it is written by a program that has options of its own
        known.update(re.findall(r'"(--[a-z-]+)"', (ROOT / "bench" / "scale.py").read_text(encoding="utf-8")))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)):
        assert option in known, option
    for command in set(re.findall(r"^(?:\$ )?gristmill ([a-z-]+)", text, re.MULTILINE)):
        assert command in {name.split()[1] for name, _ in reference.commands() if " " in name}, command


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        there = path.parent / target if target else path
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_every_environment_variable_is_documented(reference: ModuleType) -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    used = set(re.findall(r"\bGRISTMILL_[A-Z_]+", sources))
    documented = set(re.findall(r"^\| `(GRISTMILL_[A-Z_]+)` \|", page, re.MULTILINE))
    of_options = set(reference.variables())
    assert used <= documented | of_options
    assert documented <= used | of_options


def test_settings_in_prose_exist(reference: ModuleType) -> None:
    known = {*reference.variables(), *re.findall(r"GRISTMILL_[A-Z_]+", (DOCS / "operations.md").read_text())}
    for path in PROSE:
        for name in re.findall(r"\bGRISTMILL_(?!TEST_)[A-Z_]+[A-Z]", path.read_text(encoding="utf-8")):
            assert name in known, f"{path.name}: {name}"


def test_every_error_has_its_advice() -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    abstract = {"GristmillError", "UsageError", "JobFailed"}
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and name not in abstract}
    for name in sorted(name for name in names if issubclass(getattr(errors, name), errors.GristmillError)):
        assert re.search(rf"^\| [^|]*`{name}`", page, re.MULTILINE), name


def test_every_format_is_documented() -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    for name in config.INPUT_FORMATS:
        assert f"\n### {name}\n" in page
    for name in config.OUTPUT_FORMATS:
        assert f"\n### As {name}\n" in page
