"""Commands about agents and their lives."""
