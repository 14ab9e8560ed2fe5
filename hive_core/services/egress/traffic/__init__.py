"""Connections: their acceptance, the look-up and connection of what they ask for, and the passing on of bytes."""
