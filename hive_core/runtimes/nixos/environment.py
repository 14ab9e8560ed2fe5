"""What a container's harness is told beside its closure: a file in the agent's `run` directory, for EnvironmentFile=.

Only the daemon can write it, and only the container's root can read it: it may hold keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.protocol.names import shown
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.bubblewrap import APPLIED, INSIDE, agent_variables, git_identity
from hive_core.runtimes.nixos import replacing

DEPLOYED = "/etc/hyperhive/agent"
"""Where the configuration's files lie in a container: they are part of its closure."""
_NUMBER = "HIVE_AGENT_DEPLOYMENT"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r'(["\\`$])')
_UNTOLD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters for which systemd leaves the variable out."""


def place(run: Path) -> Path:
    """The file; `/run/hive/environment` in the container."""
    return run / "environment"


def variables(spec: AgentSpec) -> dict[str, str]:
    """All that the harness finds in its environment because of the hive."""
    return {
        **git_identity(spec.name),
        **spec.environment,
        **agent_variables(spec, INSIDE, deployed=DEPLOYED, applied=APPLIED),
    }


def text(values: Mapping[str, str]) -> str:
    """The file's content (systemd.exec(5), EnvironmentFile=). Raises HiveError `bad_environment`."""
    return "".join(f"{_checked(name, value)}={_quoted(value)}\n" for name, value in values.items())


def deployment_in(content: str) -> int | None:
    """The deployment that a file tells; None if it tells none."""
    found = re.search(rf'^{_NUMBER}="([0-9]{{1,18}})"$', content, re.MULTILINE)
    return None if found is None else int(found[1])


def write(spec: AgentSpec) -> None:
    """Write the file anew; raises HiveError `bad_environment` and OSError."""
    replacing.replace(place(spec.paths.run), text(variables(spec)), 0o600)


def tells(spec: AgentSpec) -> bool:
    """Whether the file is there and tells the deployment of `spec`."""
    try:
        content = replacing.read(place(spec.paths.run))
    except OSError:
        return False
    return content is not None and deployment_in(content) == spec.deployment


def _checked(name: str, value: str) -> str:
    if _NAME.fullmatch(name) is None or _UNTOLD.search(value):
        raise HiveError(
            "bad_environment",
            f"the variable {shown(name)} cannot be given to a container: "
            "its name or its value has characters that systemd does not take",
            hint="take it out of pass_environment, or give it another value",
        )
    return name


def _quoted(value: str) -> str:
    return '"' + _ESCAPED.sub(r"\\\1", value) + '"'
