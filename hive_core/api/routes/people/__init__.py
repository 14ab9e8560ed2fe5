"""Endpoints of accounts: signing in and out, sessions, API tokens, and the management of accounts."""
