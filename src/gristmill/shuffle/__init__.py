"""Blocks: layout, checksums, writing, merging, reading."""
