"""Who may come in, and what is open to them."""
