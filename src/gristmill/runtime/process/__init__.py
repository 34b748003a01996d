"""Processes and what they say to each other: limits, environment, the channel, what is private to its owner."""
