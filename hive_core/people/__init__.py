"""The people who use the hive: their accounts, and what they are signed in with."""

from hive_core.people.people import People
from hive_core.people.signed_in import ROLES, Role, SignedIn

__all__ = ["ROLES", "People", "Role", "SignedIn"]
