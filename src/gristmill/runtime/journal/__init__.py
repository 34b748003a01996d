"""Facts, durable in SQLite, and what is made of them alone: rows of jobs, histories, what others are to be told."""
