"""What jobs have on disks: their folders, logs, code, and how others' files are opened."""
