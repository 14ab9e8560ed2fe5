"""`hive-m1nd`, also `python -m hive_manager`: the manager's harness."""

from __future__ import annotations

from hive_agent.main import main_for
from hive_manager.role import MANAGER


def main() -> None:
    """Run the command line and exit."""
    main_for(MANAGER)


if __name__ == "__main__":
    main()
