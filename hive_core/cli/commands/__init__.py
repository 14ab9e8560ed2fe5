"""The commands of `hive-c0re`, by subject; each module is imported when one of its commands runs."""
