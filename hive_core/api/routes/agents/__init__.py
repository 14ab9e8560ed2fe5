"""Endpoints about agents."""
