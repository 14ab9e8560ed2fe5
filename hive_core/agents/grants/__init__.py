"""The parts of the host that agents get: limits of its resources, secrets, directories and devices."""
