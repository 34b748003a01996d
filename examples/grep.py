"""Which lines match a regular expression? A map-only job: no reducer, no shuffle, lines in the order of the input.

gristmill run examples/grep.py LOGS... --set pattern="error|warning"
gristmill run examples/grep.py LOGS... --set pattern=timeout --set ignore_case=yes -o hits
"""

import re

from gristmill import MapReduce


class Grep(MapReduce):
    """Lines that match --set pattern=REGEX."""

    def mapper_init(self):
        flags = re.IGNORECASE if self.params.get("ignore_case") == "yes" else 0
        self.search = re.compile(self.params["pattern"], flags).search

    def mapper(self, _, line):
        if self.search(line):
            self.counter("grep", "matching lines")
            yield None, line


if __name__ == "__main__":
    Grep.main()
