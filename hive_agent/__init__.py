"""hive-ag3nt: the harness in an agent's container, which turns messages into model turns."""
