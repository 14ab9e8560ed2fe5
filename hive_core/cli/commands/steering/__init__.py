"""Commands that look into agents' harnesses and steer them."""
