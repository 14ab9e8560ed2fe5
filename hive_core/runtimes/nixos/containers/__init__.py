"""The NixOS containers of agents on the host."""
