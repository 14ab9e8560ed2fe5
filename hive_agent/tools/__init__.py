"""The hive's tools, for an agent CLI."""
