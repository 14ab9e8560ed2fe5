"""Commands about the world outside: what agents reach of it."""
