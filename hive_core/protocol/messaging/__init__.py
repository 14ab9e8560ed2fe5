"""Models of messages and questions."""
