"""The world outside of the hive: what agents may reach of it, and what they may spend there."""
