"""The mirrors of the agent's repositories.

A module of its own, because the program that serves sessions loads it, and nothing else of this package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping


def read_mirrors(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the paths of the mirrors that the runtime shows, by the names of their repositories."""
    try:
        found = json.loads(variables.get("HIVE_AGENT_REPOS") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
