"""The command line of a harness's program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hive_agent.client import wake
from hive_agent.environment import version


def parse(program: str, arguments: Sequence[str]) -> argparse.Namespace:
    """What is asked for: `command`, and for `wake` its options. Ends the process when that is all, or wrong."""
    parser = argparse.ArgumentParser(program, description="Runs inside an agent's container; started by the hive.")
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="wait for the agent's messages and handle them")
    commands.add_parser("mcp", help="offer the hive's tools to an agent CLI, as an MCP server on stdin and stdout")
    wake.add_arguments(commands.add_parser("wake", help="tell the agent something, which starts a turn of its"))
    return parser.parse_args(arguments)
