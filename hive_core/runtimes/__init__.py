"""Building configurations and running agents: the interface of the runtimes, and what both of them share."""
