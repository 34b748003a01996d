"""Sort of lines by their first ten bytes with DuckDB: python sort_duckdb.py INPUT OUTPUT"""

import sys

import duckdb

# A delimiter that stands in no text makes a line one column.
SORT = """
COPY (
  SELECT line
  FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, header=false, delim=chr(1), quote='', escape='',
                auto_detect=false, strict_mode=false, null_padding=false)
  ORDER BY line[1:10]
) TO '{target}' (FORMAT csv, HEADER false, DELIMITER '\x01', QUOTE '')
"""

if __name__ == "__main__":
    source, target = sys.argv[1:]
    duckdb.connect(config={"threads": 2}).execute(SORT.format(source=source, target=target))
