"""Programs that an agent starts for longer than a turn: their keepers, their records, and the commands for them."""
