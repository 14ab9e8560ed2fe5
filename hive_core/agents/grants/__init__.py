"""What agents get of the host: limits of its resources, secrets, directories and devices."""
