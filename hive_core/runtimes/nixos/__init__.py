"""The `nixos` runtime: every agent in a NixOS container of its own, made by `nixos-container` and systemd."""
