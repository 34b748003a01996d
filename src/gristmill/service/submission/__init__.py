"""From what is asked for to a job of the coordinator."""
