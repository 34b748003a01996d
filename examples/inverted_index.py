"""Which files does each word stand in? The result is `word<TAB>number of files<SPACE>file,file,...`.

    gristmill run examples/inverted_index.py BOOKS... -o index

Each file is one record (the format `whole`): its key is the file's name, its value is the text.
"""

import re

from gristmill import MapReduce

find_words = re.compile(r"[^\W\d_]+").findall


class InvertedIndex(MapReduce):
    """For every word, the files that hold it."""

    input_format = "whole"

    def mapper(self, name, text):
        for word in set(find_words(text)):
            yield word, name

    def reducer(self, word, names):
        files = sorted(set(names))  # a file that was named twice counts once
        yield word, f"{len(files)} {','.join(files)}"


if __name__ == "__main__":
    InvertedIndex.main()
