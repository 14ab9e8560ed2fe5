"""Commands about proposals and deployments."""
