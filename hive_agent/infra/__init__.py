"""Child processes, small files, JSON and the log: what is not about agents."""
