"""A launcher for the MCP servers of agent.toml, which passes arguments and environment as they are written.

    python -I -S mcp_launch.py FILE NAME

Agent CLIs expand `$NAME`, `${NAME}` or `{env:NAME}` in the description of a server, each in another way, and some give
servers their own whole environment, with the key of the model's API. So the CLI gets only this command. FILE has, by
NAME of the server, its `command`, its `args`, and its environment (`env`), to which come the agent's secrets: FILE has
only their directory and names (`secrets`), so that no value is written to a disk. This is run as a script and imports
nothing of its package, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
import sys

_MOST_BYTES = 64 * 1024


def read_secrets(directory: str | os.PathLike[str], names: list[str]) -> dict[str, str]:
    """Return the secrets of these names, without the newlines at their ends; what cannot be read is left out."""
    found = {}
    for name in names:
        try:
            with open(os.path.join(directory, name), "rb") as file:  # noqa: PTH118, PTH123 (as in `launch`)
                content = file.read(_MOST_BYTES)
        except OSError:
            continue
        if b"\0" not in content:
            found[name] = os.fsdecode(content.rstrip(b"\r\n"))
    return found


def launch(path: str, name: str) -> None:
    """Replace this process by the server `name` of the file; returns only after printing why that was not possible."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 (importing pathlib would double the start time)
            server = json.load(file)[name]
        variables = read_secrets(**server["secrets"]) | server["env"]
        os.execvpe(server["command"], [server["command"], *server["args"]], variables)  # noqa: S606 (on purpose)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"the MCP server {name} cannot be started: {error}\n")


if __name__ == "__main__":
    launch(sys.argv[1], sys.argv[2])
    sys.exit(127)
