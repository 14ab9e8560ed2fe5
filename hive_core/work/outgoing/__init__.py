"""What leaves the hive: landed work as a pushed branch or a pull request."""
