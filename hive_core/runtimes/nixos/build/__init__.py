"""The flake that an agent's container is built from: rendering it, pure."""
