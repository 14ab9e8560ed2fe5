"""Commands about the accounts of people."""
