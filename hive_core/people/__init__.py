"""The people who use the hive: their accounts, and what they are signed in with."""

from hive_core.people.signed_in import Role, SignedIn

__all__ = ["Role", "SignedIn"]
