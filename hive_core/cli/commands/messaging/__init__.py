"""Commands about messages and questions."""
