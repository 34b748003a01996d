"""What was asked: logical nodes, stages, explain. Plain values; knows nothing of running."""
