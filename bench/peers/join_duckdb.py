"""Join of two tables in columns with DuckDB: python join_duckdb.py FOLDER OUTPUT"""

import sys

import duckdb

TABLE = (
    "read_csv('{source}/{side}.txt', columns={{'key': 'VARCHAR', '{value}': 'VARCHAR'}}, header=false, delim='\t', "
    "quote='', escape='', auto_detect=false)"
)

if __name__ == "__main__":
    source, target = sys.argv[1:]
    left = TABLE.format(source=source, side="left", value="ours")
    right = TABLE.format(source=source, side="right", value="theirs")
    duckdb.connect(config={"threads": 2}).execute(
        f"COPY (SELECT key, ours, theirs FROM {left} AS a JOIN {right} AS b USING (key)) TO '{target}' "
        "(FORMAT csv, HEADER false, DELIMITER '\t', QUOTE '')"
    )
