"""Word count in columns with DuckDB: python wordcount_duckdb.py INPUT OUTPUT"""

import sys

import duckdb

# A delimiter that stands in no text makes a line one column. The classes are what Python's [^\W\d_] means.
WORDS = r"""
COPY (
  SELECT word, count(*) AS n
  FROM (
    SELECT unnest(regexp_extract_all(line, '[\p{{L}}\p{{Nl}}\p{{No}}]+')) AS word
    FROM read_csv('{source}', columns={{'line': 'VARCHAR'}}, header=false, delim=chr(1), quote='', escape='',
                  auto_detect=false, strict_mode=false, null_padding=false)
  )
  GROUP BY word ORDER BY word
) TO '{target}' (FORMAT csv, HEADER false, DELIMITER '\t', QUOTE '')
"""

if __name__ == "__main__":
    source, target = sys.argv[1:]
    duckdb.connect(config={"threads": 2}).execute(WORDS.format(source=source, target=target))
