"""Join of two tables with Ray Data: python join_ray.py FOLDER OUTPUT"""

import sys

import ray.data
from pyarrow.csv import ParseOptions, ReadOptions
from ray_session import PARTITIONS, no_header, warm_ray


def table(path, value):
    return ray.data.read_csv(
        path,
        read_options=ReadOptions(column_names=["key", value]),
        parse_options=ParseOptions(delimiter="\t", quote_char=False),
    )


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with warm_ray():
        left, right = table(f"{source}/left.txt", "value"), table(f"{source}/right.txt", "other")
        joined = left.join(right, join_type="inner", num_partitions=PARTITIONS, on=("key",))
        joined.select_columns(["key", "value", "other"]).write_csv(target, arrow_csv_args_fn=no_header)
