"""The parts of the host that agents get: limits of its resources, secrets, directories, devices and services."""
