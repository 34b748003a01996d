"""What is told of jobs, workers and history."""
