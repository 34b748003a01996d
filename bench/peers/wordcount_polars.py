"""Word count in columns with Polars: python wordcount_polars.py INPUT OUTPUT"""

import os
import sys

os.environ["POLARS_MAX_THREADS"] = "2"  # read when it is imported

import polars as pl

WORD = r"[\p{L}\p{Nl}\p{No}]+"  # what Python's [^\W\d_] means

if __name__ == "__main__":
    source, target = sys.argv[1:]
    # A separator that stands in no text makes a line one column.
    lines = pl.scan_csv(
        source, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String}, low_memory=False
    )
    words = lines.select(pl.col("line").str.extract_all(WORD).explode().alias("word")).drop_nulls()
    counts = words.group_by("word").len().sort("word").collect(engine="streaming")
    counts.write_csv(target, include_header=False, separator="\t", quote_style="never")
