"""What people and agents may know of each other, by the owners of agents."""
