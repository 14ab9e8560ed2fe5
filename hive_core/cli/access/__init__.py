"""The caller's side of sessions in agents: commands, files, ports and git, over a descriptor that the daemon passes."""
