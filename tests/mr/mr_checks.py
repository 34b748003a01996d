"""The seven checks of the course that teaches MapReduce, written anew: each runs real processes in a folder."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

import mr_apps as apps
from mr_kit import Lab, write_texts

Check = Callable[[Lab, int], None]
PATIENT = ("--task-timeout", "60s")  # a second worker may take its time to come


def check_wc(here: Lab, seed: int) -> None:
    """Words are counted."""
    texts = write_texts(here, seed=seed)
    here.write("wc.py", apps.WC)
    found = here.run("wc.py", 10, list(texts))
    assert found == {word: str(count) for word, count in sum(texts.values(), Counter()).items()}


def check_indexer(here: Lab, seed: int) -> None:
    """Words are found in files."""
    texts = write_texts(here, seed=seed)
    here.write("indexer.py", apps.INDEXER)
    found = here.run("indexer.py", 10, list(texts))
    names = {
        word: [name for name, words in texts.items() if word in words] for words in texts.values() for word in words
    }
    assert found == {word: f"{len(where)} {','.join(sorted(where))}" for word, where in names.items()}


def check_map_parallelism(here: Lab, seed: int) -> None:
    """Two workers run map tasks at the same time."""
    texts = write_texts(here, files=2, seed=seed)
    here.write("mtiming.py", apps.MAP_PARALLEL)
    found = here.run("mtiming.py", 3, list(texts), *PATIENT)
    assert found.keys() == texts.keys()
    _check_together(list(found.values()), here)


def check_reduce_parallelism(here: Lab, seed: int) -> None:
    """Two workers run reduce tasks at the same time."""
    texts = write_texts(here, files=2, seed=seed)
    here.write("rtiming.py", apps.REDUCE_PARALLEL)
    found = here.run("rtiming.py", 2, list(texts), *PATIENT)
    assert found.keys() == sum(texts.values(), Counter()).keys()
    _check_together(list(found.values()), here)


def _check_together(values: list[str], here: Lab) -> None:
    counts, pids = zip(*(value.split() for value in values), strict=True)
    assert set(counts) == {"2"}, here.said()
    assert len(set(pids)) == 2, here.said()


def check_job_count(here: Lab, seed: int) -> None:
    """Each map task and each reduce task runs exactly once."""
    texts = write_texts(here, seed=seed)
    here.write("jobcount.py", apps.JOB_COUNT)
    (here.folder / "calls").mkdir()
    found = here.run("jobcount.py", 4, list(texts), workers=3)
    assert found == {word: str(count) for word, count in sum(texts.values(), Counter()).items()}
    calls = Counter(path.name.rsplit(" ", 2)[0] for path in (here.folder / "calls").iterdir())
    assert calls == Counter([*(f"map {name}" for name in texts), *(f"reduce {word}" for word in found)])


def check_early_exit(here: Lab, seed: int) -> None:
    """Nobody leaves before the result is complete; the coordinator leaves last."""
    texts = write_texts(here, seed=seed)
    here.write("early.py", apps.EARLY_EXIT)
    coordinator = here.coordinator(6, *texts)
    crew = [here.worker("early.py") for _ in range(3)]
    here.wait_until(lambda: any(process.has_ended for process in here.started))
    found = here.result(6)
    assert found == dict.fromkeys(texts, "1"), here.said()
    here.wait_until(lambda: coordinator.has_ended)
    assert [worker.has_ended for worker in crew] == [True] * 3, here.said()
    assert [process.wait() for process in here.started] == [0] * 4, here.said()
    assert here.result(6) == found
    assert here.leftovers() == []


def check_crash(here: Lab, seed: int) -> None:
    """Processes die in the middle of tasks, others hang, and a worker is killed: the result is what it has to be."""
    texts = write_texts(here, files=4, seed=seed)
    here.write("crash.py", apps.CRASH)
    here.write("seed", str(seed))
    calls = here.folder / "calls"
    calls.mkdir()
    coordinator = here.coordinator(4, *texts, "--task-timeout", "1s")
    crew = [here.worker("crash.py") for _ in range(3)]
    here.wait_until(lambda: len(list(calls.iterdir())) > 1 + seed % 5)
    victim = crew[seed % 3]
    here.wait_until(lambda: "joined" in victim.said())
    victim.send(signal.SIGKILL)
    time.sleep(0.2)
    crew.append(here.worker("crash.py"))
    for process in (*crew, coordinator):
        assert process.wait() == (-signal.SIGKILL if process is victim else 0), here.said()
    sizes = {name: str((here.folder / name).stat().st_size) for name in texts}
    assert here.result(4) == {**sizes, "all": " ".join(sorted(texts))}
    assert len(list(calls.iterdir())) > 2 * len(texts) + 1, "nobody has died"
    assert here.leftovers() == []


CHECKS: tuple[Check, ...] = (
    check_wc,
    check_indexer,
    check_map_parallelism,
    check_reduce_parallelism,
    check_job_count,
    check_early_exit,
    check_crash,
)
