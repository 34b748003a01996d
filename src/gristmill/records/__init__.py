"""Python values as Arrow and back; the order, equality and stable hash of keys. Knows nothing of files or tasks."""
