"""Fair shares of messaging: room in inboxes, budgets of senders, loops of agents."""
