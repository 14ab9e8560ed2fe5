"""hive-m1nd: what only the manager agent `hm1nd` has: its tools, its prompt."""
