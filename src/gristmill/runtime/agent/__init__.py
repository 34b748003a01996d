"""A machine's executors: started, given work, watched, replaced."""
