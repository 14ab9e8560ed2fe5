"""`hive-c0re dashboard`: the web pages of a hive. A process without privileges, a client of the daemon."""
