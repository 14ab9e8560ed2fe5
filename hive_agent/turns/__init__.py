"""Turns: which messages they are about, how they run, what follows a failure, and what is kept of them."""
