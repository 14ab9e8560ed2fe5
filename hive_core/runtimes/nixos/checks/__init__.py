"""Checks of proposed work with the nixos runtime, in transient units of systemd."""
