"""hive-m1nd: the tools and the duties that only the manager agent `hm1nd` has."""
