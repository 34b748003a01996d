"""Hits and bytes by path and status with DuckDB: python access_log_duckdb.py INPUT OUTPUT"""

import sys

import duckdb

TOTALS = r"""
COPY (
  SELECT hit.page || ' ' || hit.status, count(*) || ' ' || coalesce(sum(try_cast(hit.size AS BIGINT)), 0)
  FROM (
    SELECT regexp_extract(line, '^\S+ \S+ \S+ \[[^]]+\] "\S+ (\S+) [^"]*" (\d{{3}}) (\d+|-) "[^"]*" "[^"]*" [\d.]+$',
                          ['page', 'status', 'size']) AS hit
    FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, header=false, delim=chr(1), quote='', escape='',
                  auto_detect=false, strict_mode=false, null_padding=false)
  )
  WHERE hit.status <> ''
  GROUP BY hit.page, hit.status ORDER BY hit.page, hit.status
) TO '{target}' (FORMAT csv, HEADER false, DELIMITER '\t', QUOTE '')
"""

if __name__ == "__main__":
    source, target = sys.argv[1:]
    duckdb.connect(config={"threads": 2}).execute(TOTALS.format(source=source, target=target))
