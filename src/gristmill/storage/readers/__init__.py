"""One module a format: a split in, blocks of records out."""
