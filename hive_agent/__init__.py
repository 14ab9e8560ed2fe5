"""hive-ag3nt: the harness in an agent's sandbox, which turns messages into turns of a model."""
