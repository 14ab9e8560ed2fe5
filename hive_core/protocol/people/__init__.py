"""Accounts of people: the requests to sign in and to manage accounts, their answers, and the settings."""
