"""The programs of the hive that agents find on their PATH: `hive-ag3nt`, and nothing else of its Python.

Beside it lies the configuration by which ssh, and git over ssh, reach the world from a sealed agent.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hive_core.infra.storage import files
from hive_core.runtimes.agent_environment import PROGRAMS, SSH_CONFIG, python_path

_TEXT = """\
#!/bin/sh
# Written by hive-c0re at its start: the harness of this installation, whatever the Python of the caller is.
unset PYTHONHOME PYTHONPATH
{variables}exec {python} -P -m hive_agent "$@"
"""
_SSH_CONFIG = f"""\
# Written by hive-c0re at its start. A sealed agent reaches hosts through the proxy only.
Host * !localhost !127.0.0.1 !::1
    ProxyCommand {PROGRAMS}/hive-ag3nt connect %h %p
"""
"""The settings of an agent's own ~/.ssh/config win: of each option, ssh takes the first value (ssh_config(5))."""


def write_programs(directory: Path) -> None:
    """Write the programs into an existing directory. Raises OSError."""
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in python_path().items())
    text = _TEXT.format(variables=variables, python=shlex.quote(sys.executable))
    files.replace(directory / "hive-ag3nt", text, 0o755)
    files.replace(directory / SSH_CONFIG, _SSH_CONFIG, 0o644)
