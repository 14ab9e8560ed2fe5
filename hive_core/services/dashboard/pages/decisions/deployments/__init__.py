"""Deployments of an agent: their history, the way back to one of them, and changes that people make themselves."""
