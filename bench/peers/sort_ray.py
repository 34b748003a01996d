"""Sort of lines by their first ten bytes with Ray Data: python sort_ray.py FOLDER OUTPUT"""

import sys

import pyarrow.compute
import ray.data
from ray_session import no_header, warm_ray

KEY_BYTES = 10


def with_key(lines):
    return lines.append_column("key", pyarrow.compute.utf8_slice_codeunits(lines["text"], 0, KEY_BYTES))


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with warm_ray():
        lines = ray.data.read_text(source).map_batches(with_key, batch_format="pyarrow", batch_size=None)
        lines.sort("key").select_columns(["text"]).write_csv(target, arrow_csv_args_fn=no_header)
