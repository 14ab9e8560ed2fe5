"""Differences of two systems in the store: privileged programs, open ports, packages, sizes and units."""
