"""The apps of the seven checks, as text: each is written into the folder where it runs."""

WC = """
from gristmill import KeyValue


def map_func(filename, content):
    return [KeyValue(word, "1") for word in content.split()]


def reduce_func(key, values):
    return str(len(values))
"""

INDEXER = """
from gristmill import KeyValue


class Indexer:
    def map_func(self, filename, content):
        return [KeyValue(word, filename) for word in set(content.split())]

    def reduce_func(self, key, values):
        return f"{len(values)} {','.join(sorted(values))}"
"""

_TOGETHER = """
import os
import time
from pathlib import Path

from gristmill import KeyValue

SECONDS = 50.0
met = False


def meet(phase):
    \"\"\"Wait until another process does the same at the same time; how many are here then.\"\"\"
    global met
    here = Path(f"{phase}-{os.getpid()}")
    here.touch()
    give_up = time.monotonic() + SECONDS
    while (count := len(list(Path().glob(f"{phase}-*")))) < 2 and not met and time.monotonic() < give_up:
        time.sleep(0.01)
    met = True
    return count
"""

MAP_PARALLEL = f"""{_TOGETHER}

def map_func(filename, content):
    return [KeyValue(filename, f"{{meet('map')}} {{os.getpid()}}")]


def reduce_func(key, values):
    return " ".join(values)
"""

REDUCE_PARALLEL = f"""{_TOGETHER}

def map_func(filename, content):
    return [KeyValue(word, "") for word in content.split()]


def reduce_func(key, values):
    return f"{{meet('reduce')}} {{os.getpid()}}"
"""

JOB_COUNT = """
import os
import time
from pathlib import Path

from gristmill import KeyValue


def note(what):
    Path("calls", f"{what} {os.getpid()} {time.monotonic_ns()}").touch(exist_ok=False)


def map_func(filename, content):
    note(f"map {filename}")
    time.sleep(0.1)
    return [KeyValue(word, "1") for word in content.split()]


def reduce_func(key, values):
    note(f"reduce {key}")
    return str(len(values))
"""

EARLY_EXIT = """
import time

from gristmill import KeyValue


def map_func(filename, content):
    return [KeyValue(filename, "1")]


def reduce_func(key, values):
    if key.endswith(("0.txt", "3.txt")):
        time.sleep(1.5)
    return str(len(values))
"""

CRASH = """
import os
import time
from pathlib import Path
from random import Random

from gristmill import KeyValue


def live_dangerously(task):
    \"\"\"End, or do nothing for long, or go on: as the seed says of this call.\"\"\"
    seed = Path("seed").read_text()
    calls = 0
    while True:  # no two calls have a number in common
        try:
            Path("calls", f"{task} {calls}").touch(exist_ok=False)
            break
        except FileExistsError:
            calls += 1
    fate = Random(f"{seed} {task} {calls}").random()
    if calls == 0 and task == "map text-0.txt":
        fate = 0.0  # so that each of the two happens at least once
    if calls == 0 and task == "map text-1.txt":
        fate = 0.4
    if fate < 0.33 and calls < 3:
        os._exit(1)
    if fate < 0.45 and calls < 1:
        time.sleep(60.0)


def map_func(filename, content):
    live_dangerously(f"map {filename}")
    return [KeyValue(filename, str(len(content))), KeyValue("all", filename)]


def reduce_func(key, values):
    live_dangerously(f"reduce {key}")
    return " ".join(sorted(values))
"""

FAILING = """
from gristmill import KeyValue


def map_func(filename, content):
    return [KeyValue(word, int(word)) for word in content.split()]


def reduce_func(key, values):
    return str(sum(values))
"""

ENDLESS = """
import time


def map_func(filename, content):
    time.sleep(600.0)
    return []


def reduce_func(key, values):
    return ""
"""
