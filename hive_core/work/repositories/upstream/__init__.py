"""Traffic with upstreams: git with network and one credential, in a confinement of its own.

A transfer never writes to a mirror. What it has received is a pack in a directory of its own, which another git without
network verifies (`hive_core.work.repositories.intake`).
"""
