"""Models of the use of vendors' models: providers, budgets, usage, and the link between daemon and relay."""
