"""The confined units of systemd in which Nix evaluates, builds and fetches for agents."""
