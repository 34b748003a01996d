"""Hits and bytes by path and status with Polars: python access_log_polars.py INPUT OUTPUT"""

import os
import sys

os.environ["POLARS_MAX_THREADS"] = "2"  # read when it is imported

import polars as pl

LINE = r'^\S+ \S+ \S+ \[[^]]+\] "\S+ (?<page>\S+) [^"]*" (?<status>\d{3}) (?<size>\d+|-) "[^"]*" "[^"]*" [\d.]+$'

if __name__ == "__main__":
    source, target = sys.argv[1:]
    # A separator that stands in no text makes a line one column.
    lines = pl.scan_csv(source, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String})
    hits = lines.select(pl.col("line").str.extract_groups(LINE).alias("hit")).unnest("hit").drop_nulls("status")
    sent = pl.col("size").cast(pl.Int64, strict=False).fill_null(0).sum()
    totals = hits.group_by("page", "status").agg(pl.len().alias("hits"), sent.alias("sent")).sort("page", "status")
    texts = totals.select(pl.format("{} {}", "page", "status"), pl.format("{} {}", "hits", "sent").alias("totals"))
    texts.collect(engine="streaming").write_csv(target, include_header=False, separator="\t", quote_style="never")
