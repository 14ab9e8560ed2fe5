"""One attempt of a turn: its run within limits, its tool calls, its answers to the operator, and the pause after it."""
