"""What the scripts for Ray Data share: a Ray of their own that is up and warm, and the time that the work took."""

import os
import sys
import tempfile
import time
from contextlib import contextmanager

CPUS = 2
PARTITIONS = 4  # of a shuffle; its own choice, 200, takes several times as long for so little data
STORE_BYTES = 2 << 30


@contextmanager
def warm_ray():
    """Start Ray and let its workers do something; print the seconds that the body of the ``with`` takes."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    import ray
    import ray.data

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=CPUS, object_store_memory=STORE_BYTES, include_dashboard=False,
            log_to_driver=False, logging_level="error", _temp_dir=folder,
        )  # fmt: skip
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            numbers = ray.data.range(2 * CPUS, override_num_blocks=2 * CPUS).map_batches(_same, batch_format="pyarrow")
            numbers.groupby("id", num_partitions=CPUS).count().materialize()
            begun = time.perf_counter()
            yield
            print(time.perf_counter() - begun, flush=True)
        finally:
            ray.shutdown()


def no_header():
    """How ``write_csv`` writes plain text: fields between tabs."""
    from pyarrow.csv import WriteOptions

    return {"write_options": WriteOptions(include_header=False, delimiter="\t", quoting_style="none")}


def _same(batch):
    return batch


if __name__ == "__main__":
    sys.exit("This is for the scripts beside it.")
