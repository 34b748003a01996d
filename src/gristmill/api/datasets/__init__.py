"""Datasets: lazy chains of transformations over anything, run by actions."""
