"""From a commit to a closure: the agent's flake, the confined build, GC roots, differences of closures."""
