"""hive-c0re: the root daemon of a hive, its command line, and the protocol that the harnesses speak."""

__version__ = "0.1.0"
