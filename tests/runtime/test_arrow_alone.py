"""Executors have no pandas until the job's code imports it; then Arrow knows its objects. Workers have no numpy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agent_kit
import cloudpickle
import pytest
from agent_kit import Mill

cloudpickle.register_pickle_by_value(sys.modules[__name__])
cloudpickle.register_pickle_by_value(agent_kit)


WITHOUT_PANDAS = "from gristmill.runtime.executor.arrow_alone import defer_pandas\ndefer_pandas()"


def in_a_new_process(program: str, first: str = WITHOUT_PANDAS) -> None:
    done = subprocess.run([sys.executable, "-c", f"{first}\n{program}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_arrays_are_made_without_pandas() -> None:
    in_a_new_process(
        "import sys, pyarrow as pa\n"
        "assert pa.array(['a', None]).null_count == 1\n"
        "assert pa.table({'a': [1]}).num_rows == 1\n"
        "assert 'pandas' not in sys.modules"
    )


@pytest.mark.parametrize("imported", ["import pandas", "import pandas.core.frame", "import pyarrow, pandas"])
def test_what_pandas_has_is_known_as_ever(imported: str) -> None:
    in_a_new_process(
        f"{imported}\n"
        "import pyarrow as pa\n"
        "series = pandas.Series([1.0, None])\n"
        "assert pa.array(series).null_count == 1, 'nan of pandas is null'\n"
        "assert isinstance(pa.array(pandas.Categorical(['a'])), pa.DictionaryArray)\n"
        "assert pa.Table.from_pandas(series.to_frame('a'))['a'].null_count == 1\n"
        "assert pandas.__spec__.loader is pandas.__loader__"
    )


def test_a_worker_does_without_numpy() -> None:
    in_a_new_process(
        "assert 'numpy' not in sys.modules\n"
        "import gristmill.shuffle.serve, pyarrow as pa\n"
        "assert 'numpy' not in sys.modules\n"
        "assert pa.table({'a': [1, None]})['a'].to_pylist() == [1, None]\n"
        "import numpy\n"
        "assert numpy.arange(3).sum() == 3",
        first="import sys\nfrom gristmill.runtime.worker.arrow_lean import import_arrow\nimport_arrow()",
    )


def test_numpy_stays_known_where_it_is_used() -> None:
    in_a_new_process(
        "import pyarrow as pa\nassert pa.array(numpy.arange(3)).to_numpy().sum() == 3",
        first="import numpy\nfrom gristmill.runtime.worker.arrow_lean import import_arrow\nimport_arrow()",
    )


def test_frames_can_be_made_of_tables_by_who_never_imported_pandas() -> None:
    in_a_new_process("import pyarrow as pa\nassert len(pa.table({'a': [1]}).to_pandas()) == 1")


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    mill = Mill(tmp_path)
    yield mill
    mill.fleet.close()


def test_an_executor_imports_what_its_job_imports(mill: Mill) -> None:
    def mapper(_: Any, line: str) -> Any:
        import pyarrow as pa

        assert "pandas" not in sys.modules
        import pandas as pd

        yield line, pa.array(pd.Series([1.0, None])).null_count

    assert mill.success(mapper).records_out == 1
