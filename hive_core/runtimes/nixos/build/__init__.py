"""Builds of closures from commits: the agent's flake, the confined build, GC roots, differences of closures."""
