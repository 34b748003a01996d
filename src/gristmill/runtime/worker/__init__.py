"""A machine at work for a coordinator elsewhere."""
