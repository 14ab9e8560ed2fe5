"""Directories and environment variables of a harness."""

from __future__ import annotations

import json
import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

import hive_core
from hive_core.layout import AgentPaths
from hive_core.protocol.network.services import variable_of
from hive_core.runtimes.base import AgentSpec

INSIDE = AgentPaths(
    config=Path("/config"),
    state=Path("/state"),
    claude=Path("/root/.claude"),
    code=Path("/code"),
    run=Path("/run/hive"),
)
"""Paths of an agent's directories in its sandbox."""
SECRETS = str(INSIDE.secrets_mount)
"""The agent's secrets as files, read-only."""
BINDS = "/binds"
"""The directories of the host that the agent was given, each under its name. HIVE_BIND_NAME is the path of one."""
DEPLOYED = "/deployed"
"""The active configuration, read-only."""
APPLIED = "/applied"
"""The applied repositories that the agent may see, read-only."""
REPOSITORIES = "/repos"
"""The directory of the mirrors of the agent's repositories, read-only, each as `<name>.git`."""
DNS = "/run/hive-dns"
"""The directory with the host's resolv.conf."""
PROGRAMS = "/opt/hive"
"""The directory with the hive's programs, in sandboxes of the local runtime."""
SSH_CONFIG = "ssh_config"
"""The file below PROGRAMS that tells ssh of the proxy."""
NIXOS_SYSTEM = "/run/current-system"
_SEARCH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin", f"{NIXOS_SYSTEM}/sw/bin")
SEARCH_PATH = ":".join(_SEARCH)
"""The PATH of harnesses, without the hive's own programs."""


def package_root() -> Path:
    """Return the directory of the hive's packages."""
    return Path(hive_core.__file__).parent.parent


def python_path() -> Mapping[str, str]:
    """Return the variables with which an interpreter finds the hive's packages; none if they are installed.

    They are as few as possible, because the agent's own Python programs read them too.
    """
    root = package_root()
    return {} if str(root) in site.getsitepackages() else {"PYTHONPATH": str(root)}


def harness_environment(spec: AgentSpec) -> dict[str, str]:
    """Return the complete environment of a harness."""
    return {
        # Not the directory of the hive's Python: its environment is no part of the agent's system.
        "PATH": ":".join([*([PROGRAMS] if spec.programs else []), *_SEARCH]),
        "LANG": "C.UTF-8",
        **python_path(),
        **git_identity(spec.name),
        **spec.environment,
        "HOME": "/root",
        **agent_variables(spec, INSIDE, deployed=DEPLOYED, applied=APPLIED, mirrors=inside_mirrors(spec)),
    }


def inside_mirrors(spec: AgentSpec) -> dict[str, str]:
    """Return the paths of the mirrors in a sandbox or container, by the name of the repository."""
    return {each.name: f"{REPOSITORIES}/{each.name}.git" for each in spec.repositories}


def plain_path(spec: AgentSpec) -> str:
    """Return the PATH of a plain process: the daemon's with the programs, and without its virtual environment."""
    path = os.environ.get("PATH", os.defpath)
    return os.pathsep.join([*([str(spec.programs)] if spec.programs else []), _without_own_python(path)])


def _without_own_python(path: str) -> str:
    if sys.prefix == sys.base_prefix:
        return path
    own = {os.path.realpath(Path(sys.executable).parent), os.path.realpath(Path(sys.prefix, "bin"))}
    return os.pathsep.join(part for part in path.split(os.pathsep) if os.path.realpath(part) not in own)


def agent_variables(
    spec: AgentSpec,
    paths: AgentPaths,
    *,
    deployed: str,
    applied: str,
    mirrors: Mapping[str, str],
    secrets: str = SECRETS,
) -> dict[str, str]:
    """Return the variables with a harness's directories, its deployment, the port of its page and its way out."""
    variables = {
        "HIVE_AGENT_RUN": str(paths.run),
        "HIVE_AGENT_STATE": str(paths.state),
        "HIVE_AGENT_CLAUDE": str(paths.claude),
        "HIVE_AGENT_CONFIG": str(paths.config),
        "HIVE_AGENT_CODE": str(paths.code),
        "HIVE_AGENT_DEPLOYMENT": str(spec.deployment),
    }
    if spec.web_port:
        variables["HIVE_AGENT_PORT"] = str(spec.web_port)
    if spec.gateways:
        variables["HIVE_AGENT_GATEWAYS"] = json.dumps(dict(spec.gateways))
        variables |= proxy_variables(spec.gateways)
    variables |= {variable_of(name): address for name, address in spec.services.items()}
    if spec.secrets is not None:
        variables["HIVE_AGENT_SECRETS"] = secrets
    for bind in spec.binds:
        place = f"{BINDS}/{bind.name}" if paths is INSIDE else str(bind.path)
        variables[f"HIVE_BIND_{bind.name.upper().replace('-', '_')}"] = place
    if spec.closure:
        variables["HIVE_AGENT_DEPLOYED"] = deployed
    if spec.applied is not None:
        variables["HIVE_AGENT_APPLIED"] = applied
    if mirrors:
        variables["HIVE_AGENT_REPOS"] = json.dumps(mirrors)
    return variables


def proxy_variables(gateways: Mapping[str, int]) -> dict[str, str]:
    """Return the variables that tell programs of the proxy of a sealed agent, if it has one.

    Most programs read either spelling; curl takes only the small one for plain HTTP, so that no header of a request to
    a CGI program can set it. Node reads them if NODE_USE_ENV_PROXY is set.
    """
    if "proxy" not in gateways:
        return {}
    address = f"http://127.0.0.1:{gateways['proxy']}"
    own = "localhost,127.0.0.1,::1"
    names = {"http_proxy": address, "https_proxy": address, "no_proxy": own}
    return {**names, **{name.upper(): value for name, value in names.items()}, "NODE_USE_ENV_PROXY": "1"}


def git_identity(name: str) -> Mapping[str, str]:
    """Return the variables with an agent's name and address for git, which refuses to commit without them."""
    return {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", f"{name}@hive"))
    }
