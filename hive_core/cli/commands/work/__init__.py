"""Commands about work: repositories, and proposals of changes to them."""
