"""`hive-ag3nt`, also `python -m hive_agent`: the harness of an ordinary agent."""

from __future__ import annotations

from hive_agent.main import main_for
from hive_agent.role import AGENT


def main() -> None:
    """Run the command line and exit."""
    main_for(AGENT)


if __name__ == "__main__":
    main()
