"""Landing of approved work: merges, the queue, and the steps that move a branch."""
