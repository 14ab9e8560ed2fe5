"""The NixOS containers of agents on the host: activation, configuration files, monitoring."""
