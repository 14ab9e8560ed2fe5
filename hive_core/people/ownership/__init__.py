"""The knowledge that people and agents may have of each other, by the owners of agents."""
