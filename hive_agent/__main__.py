"""`hive-ag3nt`, also `python -m hive_agent`: the harness of an ordinary agent."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from hive_agent.infra.without_openssl import without_openssl


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] == ["access"]:  # Somebody waits for it, and it needs nothing of the harness.
        from hive_agent.access.server import main as serve_sessions  # noqa: PLC0415

        sys.exit(serve_sessions())
    if sys.argv[1:2] == ["connect"] and len(sys.argv) == 4 and sys.argv[3].isdecimal():  # As ssh starts it.
        from hive_agent.client.proxied import connect  # noqa: PLC0415

        sys.exit(connect(sys.argv[2], int(sys.argv[3])))
    # Tools may have to reach MCP servers on the network; the harness itself speaks on unix sockets only.
    with without_openssl() if sys.argv[1:] == ["serve"] else nullcontext():
        from hive_agent.main import main_for  # noqa: PLC0415
    from hive_agent.role import AGENT  # noqa: PLC0415

    main_for(AGENT)


if __name__ == "__main__":
    main()
