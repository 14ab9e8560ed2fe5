"""The checks of `doctor --live`, against a running hive: the life of a throwaway agent, and the seals of agents."""
