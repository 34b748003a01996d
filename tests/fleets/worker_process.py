"""A worker as a process, for tests, with their patience. Its token is in GRISTMILL_TOKEN."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from gristmill.config import parse_size
from gristmill.errors import GristmillError
from gristmill.runtime.worker.worker import WorkerSettings, run_worker


def main() -> None:
    """Parse the arguments, named as the settings, and be a worker."""
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    parser.add_argument("url")
    parser.add_argument("--executors", type=int)
    parser.add_argument("--memory", type=parse_size, dest="memory_bytes")
    parser.add_argument("--data-dir", type=Path, action="append", dest="data_dirs", required=True)
    for name in ("--rack", "--name", "--machine", "--host"):
        parser.add_argument(name)
    for name in ("--patience-seconds", "--drain-seconds"):
        parser.add_argument(name, type=float)
    given = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given["data_dirs"] = tuple(given["data_dirs"])
    try:
        run_worker(WorkerSettings(token=os.environ.get("GRISTMILL_TOKEN", ""), **given))
    except GristmillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
