"""What moves: coordinator, agent, executor process, task runner, job folder."""
