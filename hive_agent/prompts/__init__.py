"""The texts that the model reads: the system prompt and the prompt of a turn."""
