"""The web page: jobs, workers and history for people, rendered here and kept live by server-sent events."""
