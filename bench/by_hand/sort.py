"""GNU sort of the lines of a file, by bytes, in memory if it fits: python bench/by_hand/sort.py INPUT OUTPUT

By whole lines, which is fastest; where the keys at their beginnings differ it is the order of the keys.
"""

import os
import sys

BUFFER = "4G"  # for 2 GB of lines, whose places take half as much again
THREADS = "2"

if __name__ == "__main__":
    source, target = sys.argv[1:]
    options = ["--parallel", THREADS, "--buffer-size", BUFFER, "--output", target]
    os.execvpe("sort", ["sort", *options, source], {**os.environ, "LC_ALL": "C"})
