"""The REST interface, ``/api/v1``: a file for each kind of thing. Each route says the role that it wants."""
