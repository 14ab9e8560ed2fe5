"""The agent's web page: what happens in the harness, live, and the buttons to steer it."""
