"""Commands that step into an agent: shell, exec, cp, port-forward, diff, fetch."""
