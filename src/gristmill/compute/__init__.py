"""Batches in, batches out: map, combine, sort, group. Pure of processes and output files."""
