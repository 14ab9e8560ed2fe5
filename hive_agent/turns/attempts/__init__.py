"""One attempt of a turn: its run within limits, its tool calls, and the answers that it owes the operator."""
