"""Jobs: how they come in, run, are tried again, taken up and end. What to do next, ``scheduling`` decides."""
