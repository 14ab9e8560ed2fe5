"""The ledger of calls of vendors' models: prices, budgets, reservations and settlements."""
