"""Every example, run as a user would run it, against a result made by hand; on Ray, also against what inline gives."""

import csv
import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import pytest
from ray_kit import ray_marks

from gristmill.cli.access_log import lines as access_log_lines

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = re.compile(r"[^\W\d_]+")
TEXTS = {
    "one.txt": "the mill turns, the mill grinds\nDie Mühle mahlt; 2 mills\n",
    "two.txt": "Mill and mill and mill\r\nno final newline: the end",
    "three.txt": "",
}


# Those that run on Ray in every run of the suite, too; the others do in the soak.
ON_RAY = ["test_wordcount_as_a_script", "test_top_n"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every example runs in both places."""
    if "tmp_path" in metafunc.fixturenames:
        soak = () if metafunc.function.__name__ in ON_RAY else (pytest.mark.soak,)
        metafunc.parametrize("where", ["local", pytest.param("ray", marks=[*ray_marks, *soak])], indirect=True)


@pytest.fixture(autouse=True)
def where(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where jobs run that are not told otherwise."""
    if getattr(request, "param", "local") == "local":
        yield
        return
    with request.getfixturevalue("ray_nodes").joined(), pytest.MonkeyPatch.context() as patch:
        for name in ("GRISTMILL_ON", "GRISTMILL_RUN_ON"):  # of scripts, and of commands
            patch.setenv(name, "ray")
        patch.setenv("GRISTMILL_RUN_EXECUTORS", "1")  # several are for the contract suite
        yield


def call(*args: object, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    words = [str(arg) for arg in args]
    done = started(words, tmp_path, os.environ)
    if os.environ.get("GRISTMILL_RUN_ON") == "ray":
        compare_with_inline(words, done.stdout, tmp_path)
    return done


def compare_with_inline(words: list[str], stdout: str, tmp_path: Path) -> None:
    """The same command gives the same bytes inline."""
    other = {"ray": "inline"}
    if "-o" in words:
        output = words[words.index("-o") + 1]
        other[output] = "inline"
    variables = {**os.environ, "GRISTMILL_ON": "inline", "GRISTMILL_RUN_ON": "inline"}
    assert started([other.get(word, word) for word in words], tmp_path, variables).stdout == stdout
    if "-o" in words:
        assert bytes_in(tmp_path / output) == bytes_in(tmp_path / "inline") != {}


def started(words: list[str], tmp_path: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    env = {**variables, "GRISTMILL_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, env=env,
        timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*")}


def run(example: str, *args: object, tmp_path: Path) -> list[str]:
    """The lines that `gristmill run` prints."""
    job = EXAMPLES / example
    return call("-m", "gristmill.cli.main", "run", job, *args, tmp_path=tmp_path).stdout.splitlines()


def output_of(folder: Path) -> list[str]:
    assert (folder / "_SUCCESS").exists()
    return [line for part in sorted(folder.glob("part-*")) for line in part.read_text("utf-8").splitlines()]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_bytes(text.encode())
    return folder


def count_words() -> Counter[str]:
    return Counter(word for text in TEXTS.values() for word in WORDS.findall(text))


def test_wordcount_as_a_script(tmp_path: Path, texts: Path) -> None:
    call(EXAMPLES / "wordcount.py", texts, "-o", "counts", "--reducers", "2", tmp_path=tmp_path)
    assert len(list((tmp_path / "counts").glob("part-r-*"))) == 2
    assert sorted(output_of(tmp_path / "counts")) == sorted(f"{word}\t{n}" for word, n in count_words().items())


def test_wordcount_by_the_command(tmp_path: Path, texts: Path) -> None:
    found = run("wordcount.py", texts / "*.txt", tmp_path=tmp_path)
    assert found == [f"{word}\t{n}" for word, n in sorted(count_words().items())]


def test_inverted_index(tmp_path: Path, texts: Path) -> None:
    index = defaultdict(set)
    for name, text in TEXTS.items():
        for word in WORDS.findall(text):
            index[word].add(name)
    found = {}
    for line in run("inverted_index.py", "texts", tmp_path=tmp_path):
        word, rest = line.split("\t")
        count, files = rest.split(" ", 1)
        found[word] = {Path(file).name for file in files.split(",")}
        assert int(count) == len(found[word])
    assert found == index


def test_grep_keeps_the_order_of_the_input(tmp_path: Path, texts: Path) -> None:
    files = [texts / "two.txt", texts / "one.txt"]
    assert run("grep.py", *files, "--set", "pattern=mill", "--split-size", "5", tmp_path=tmp_path) == [
        "Mill and mill and mill",
        "the mill turns, the mill grinds",
        "Die Mühle mahlt; 2 mills",
    ]


def test_grep_takes_parameters_and_counts(tmp_path: Path, texts: Path) -> None:
    args = (texts, "--set", "pattern=^MILL", "--set", "ignore_case=yes", "-o", "hits")
    done = call("-m", "gristmill.cli.main", "run", EXAMPLES / "grep.py", *args, tmp_path=tmp_path)
    assert output_of(tmp_path / "hits") == ["Mill and mill and mill"]
    assert list((tmp_path / "hits").glob("part-m-*")) and not list((tmp_path / "hits").glob("part-r-*"))
    assert re.search(r"grep\.matching lines +1\n", done.stderr)


def test_top_n(tmp_path: Path, texts: Path) -> None:
    ranked = sorted(count_words().items(), key=lambda pair: (-pair[1], pair[0]))
    found = run("top_n.py", texts, "--set", "n=4", "--reducers", "3", "--split-size", "20", tmp_path=tmp_path)
    assert found == [f"{word}\t{n}" for word, n in ranked[:4]]


def test_join(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text('customer_id,name\n1,Ada\n2,"Grace, ""Amazing"""\n3,Linus\n')
    (tmp_path / "orders.csv").write_text("order_id,customer_id,amount\n10,2,5.50\n11,1,7\n12,2,1\n13,9,3\n")
    args = ("customers.csv", "orders.csv", "-o", "joined", "--output-format", "csv")
    done = call("-m", "gristmill.cli.main", "run", EXAMPLES / "join.py", *args, tmp_path=tmp_path)
    rows = list(csv.DictReader(output_of(tmp_path / "joined")))
    assert sorted(tuple(row.values()) for row in rows) == [
        ("10", "2", 'Grace, "Amazing"', "5.50"),
        ("11", "1", "Ada", "7"),
        ("12", "2", 'Grace, "Amazing"', "1"),
    ]
    assert list(rows[0]) == ["order_id", "customer_id", "name", "amount"]
    assert re.search(r"join\.customers without order +1\n", done.stderr)
    assert re.search(r"join\.orders without customer +1\n", done.stderr)


@pytest.mark.parametrize("combiner", [[], ["--no-combiner"]])
def test_mean_with_and_without_combiner(tmp_path: Path, combiner: list[str]) -> None:
    (tmp_path / "t.txt").write_text("Vienna,20\nOslo,3\nVienna,21\nodd line\nVienna,25\nOslo,4\n")
    on = os.environ.get("GRISTMILL_RUN_ON", "inline")
    found = run("mean.py", "t.txt", "--split-size", "12", "--on", on, *combiner, tmp_path=tmp_path)
    assert found == ["Oslo\t3.5", "Vienna\t22.0"]


def test_access_log(tmp_path: Path) -> None:
    log = "".join(access_log_lines(3000, seed=5))
    (tmp_path / "access.log").write_text(log + "not a line of a log\n")
    done = call(
        "-m", "gristmill.cli.main", "run", EXAMPLES / "access_log.py", "access.log", "--split-size", "64KiB",
        tmp_path=tmp_path,
    )  # fmt: skip
    assert re.search(r"access log\.lines not understood +1\n", done.stderr)
    found = {}
    for line in done.stdout.splitlines():
        name, rest = line.split("\t")
        found[name] = dict(pair.split("=") for pair in rest.split())
    rows = [line.split() for line in log.splitlines()]
    minutes = Counter(row[3][1:18] for row in rows)
    assert {name: int(v["hits"]) for name, v in found.items() if not name.startswith("/")} == minutes
    by_path = defaultdict(list)
    for row in rows:
        by_path[row[6]].append(row)
    assert {name for name in found if name.startswith("/")} == set(by_path)
    for path, hits in by_path.items():
        report = found[path]
        assert int(report["hits"]) == len(hits)
        assert int(report["bytes"]) == sum(int(row[9]) for row in hits if row[9] != "-")
        assert int(report["errors"]) == sum(row[8] >= "500" for row in hits)
        exact = sorted(float(row[-1]) for row in hits)
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
            right = exact[math.ceil(share * len(exact)) - 1]
            # Within 1 %, and on top of that half a millisecond of rounding to three digits.
            assert abs(float(report[name]) - right) <= 0.01 * right + 0.0005 + 1e-9


RUNNERS = [(), ("-m", "gristmill.cli.main", "run")]


@pytest.mark.parametrize("runner", RUNNERS, ids=["python", "gristmill"])
def test_pagerank(tmp_path: Path, runner: tuple[str, ...]) -> None:
    random = Random(1)
    links = sorted({(f"p{random.randrange(30)}", f"p{int(random.random() ** 3 * 30)}") for _ in range(200)})
    (tmp_path / "links.txt").write_text("".join(f"{page} {target}\n" for page, target in [*links, links[0]]))
    targets = defaultdict(list)
    for page, target in links:
        targets[page].append(target)
    ranks = dict.fromkeys(targets, 1.0)
    for _ in range(3):
        sums = dict.fromkeys(targets, 0.0)
        for page, linked in targets.items():
            for target in linked:
                sums[target] = sums.get(target, 0.0) + ranks[page] / len(linked)
        ranks = {page: 0.15 + 0.85 * total for page, total in sums.items()}
    found = call(*runner, EXAMPLES / "pagerank.py", "links.txt", 3, tmp_path=tmp_path).stdout.splitlines()
    best = sorted(ranks.items(), key=lambda pair: -pair[1])[:10]
    assert [line.split("\t") for line in found] == [[page, f"{rank:.4f}"] for page, rank in best]


@pytest.mark.parametrize("runner", RUNNERS, ids=["python", "gristmill"])
def test_kmeans(tmp_path: Path, runner: tuple[str, ...]) -> None:
    random = Random(2)
    centers = [(0.0, 0.0), (50.0, 0.0), (20.0, 40.0)]
    points = [(random.gauss(x, 3), random.gauss(y, 3)) for n, (x, y) in enumerate(centers) for _ in range(20 + n)]
    random.shuffle(points)
    (tmp_path / "points.txt").write_text("".join(f"{x!r} {y!r}\n" for x, y in points))
    right = set()
    for center in centers:
        cluster = [point for point in points if min(centers, key=lambda each: math.dist(each, point)) == center]
        middle = (sum(column) / len(cluster) for column in zip(*cluster, strict=True))
        right.add(f"{len(cluster)}\t{' '.join(f'{each:.4f}' for each in middle)}")
    found = call(*runner, EXAMPLES / "kmeans.py", "points.txt", 3, tmp_path=tmp_path).stdout.splitlines()
    assert len(found) == 3 and set(found) == right


def test_every_example_says_how_to_run_it() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert f"gristmill run examples/{path.name}" in path.read_text(), path.name


def test_every_example_is_tested() -> None:
    text = Path(__file__).read_text()
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(re.findall(r'"(\w+\.py)"', text))
