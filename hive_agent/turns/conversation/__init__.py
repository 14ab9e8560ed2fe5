"""The conversation with the model: its state on disk, its backend, and the check whether it can go on."""
