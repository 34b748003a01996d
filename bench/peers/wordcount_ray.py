"""Word count with Ray Data: python wordcount_ray.py rows|batches|counted FOLDER OUTPUT

`rows` has a function of a line, as the other peers; `batches` one of many lines at once, as Ray Data advises;
`counted` adds up in that function, so that hardly anything is left to group.
"""

import re
import sys
from collections import Counter

import pyarrow
import ray.data
from ray_session import PARTITIONS, no_header, warm_ray

find_words = re.compile(r"[^\W\d_]+").findall


def words_of_row(row):
    return [{"word": word} for word in find_words(row["text"])]


def words_of_batch(lines):
    return pyarrow.table({"word": [word for line in lines["text"].to_pylist() for word in find_words(line)]})


def counts_of_batch(lines):
    counts = Counter()
    for line in lines["text"].to_pylist():
        counts.update(find_words(line))
    return pyarrow.table({"word": list(counts), "count": list(counts.values())})


def counts_of(lines, way):
    if way == "rows":
        return grouped(lines.flat_map(words_of_row)).count()
    function = words_of_batch if way == "batches" else counts_of_batch
    words = grouped(lines.map_batches(function, batch_format="pyarrow", batch_size=None))
    return words.count() if way == "batches" else words.sum("count")


def grouped(words):
    return words.groupby("word", num_partitions=PARTITIONS)


if __name__ == "__main__":
    way, source, target = sys.argv[1:]
    with warm_ray():
        counts_of(ray.data.read_text(source), way).write_csv(target, arrow_csv_args_fn=no_header)
