"""Inverted index as a good Python programmer writes it by hand: one process, one dict, every pair kept.

python bench/by_hand/inverted_index.py FOLDER OUTPUT
"""

import re
import sys
from pathlib import Path

find_words = re.compile(r"[^\W\d_]+").findall

if __name__ == "__main__":
    source, target = sys.argv[1:]
    index: dict[str, list[str]] = {}
    for path in sorted(Path(source).iterdir()):
        name = path.name
        for word in find_words(path.read_bytes().decode("utf-8", "surrogateescape")):
            names = index.get(word)
            if names is None:
                index[word] = [name]
            else:
                names.append(name)
    with Path(target).open("w", encoding="utf-8", errors="surrogateescape") as out:
        out.writelines(f"{word}\t{','.join(sorted(set(index[word])))}\n" for word in sorted(index))
    print(f"{sum(map(len, index.values())):,} pairs, {len(index):,} distinct words")
