"""Endpoints of work: repositories, and proposals of changes to them."""
