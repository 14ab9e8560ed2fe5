"""The git repositories of the agent."""
