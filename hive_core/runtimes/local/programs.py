"""The programs of the hive that agents find on their PATH: `hive-ag3nt`, and nothing else of its Python."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hive_core.infra.storage import files
from hive_core.runtimes.agent_environment import python_path

_TEXT = """\
#!/bin/sh
# Written by hive-c0re at its start: the harness of this installation, whatever the Python of the caller is.
unset PYTHONHOME PYTHONPATH
{variables}exec {python} -P -m hive_agent "$@"
"""


def write_programs(directory: Path) -> None:
    """Write the programs into an existing directory. Raises OSError."""
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in python_path().items())
    text = _TEXT.format(variables=variables, python=shlex.quote(sys.executable))
    files.replace(directory / "hive-ag3nt", text, 0o755)
