"""The sum of the numbers of each key, by hand, with one dict: python bench/by_hand/aggregation.py INPUT OUTPUT"""

import sys
from pathlib import Path

if __name__ == "__main__":
    source, target = sys.argv[1:]
    sums: dict[str, int] = {}
    with Path(source).open() as lines:
        for line in lines:
            key, _, value = line.partition("\t")
            sums[key] = sums.get(key, 0) + int(value)
    with Path(target).open("w") as out:
        out.writelines(f"{key}\t{total}\n" for key, total in sums.items())
    print(f"{len(sums):,} keys, the sum of all is {sum(sums.values()):,}")
