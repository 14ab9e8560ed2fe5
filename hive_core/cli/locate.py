"""Where `host.sock` is: the same answer as `Settings.layout`, without the time that importing pydantic takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_FILE = Path("/etc/hyperhive/config.toml")


def host_socket(named: str | None, environment: Mapping[str, str], file: Path = DEFAULT_FILE) -> Path:
    """The socket that was `named`, or HIVE_SOCKET, or the one that a daemon with these settings listens on."""
    explicit = named or environment.get("HIVE_SOCKET")
    if explicit:
        return Path(explicit).absolute()
    found = _from(file)
    run = environment.get("HIVE_RUN_DIR", found.get("run_dir"))
    if run is not None:
        return Path(run).absolute() / "host.sock"
    state = Path(environment.get("HIVE_STATE_DIR", found.get("state_dir", "/var/lib/hyperhive"))).absolute()
    return (Path("/run/hyperhive") if state == Path("/var/lib/hyperhive") else state / "run") / "host.sock"


def _from(file: Path) -> dict[str, str]:
    """Directories named in the daemon's own file. One that cannot be read names none: the daemon complains of it."""
    if not os.access(file, os.R_OK):
        return {}
    import tomllib  # noqa: PLC0415 - most calls do not need it

    try:
        values = tomllib.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {key: values[key] for key in ("run_dir", "state_dir") if isinstance(values.get(key), str)}
