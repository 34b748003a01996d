"""What moves. Beside the folders: what all of them speak of (tasks and jobs as values), and ``replay``, above them."""
