"""Processes beside the daemon, which need no privileges. The daemon imports none of them."""
