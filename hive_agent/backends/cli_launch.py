"""The environment of an agent CLI, from nothing: of the harness's own only what is named gets in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_EVERY_PROGRAM: Sequence[str] = (
    "PATH",
    "HOME",
    "LANG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_*",
    "GIT_AUTHOR_*",
    "GIT_COMMITTER_*",
    "HIVE_AGENT_APPLIED",
    "HIVE_AGENT_CONFIG",
    "HIVE_AGENT_DEPLOYED",
    # Where nothing confines an agent, the daemon knows by these two what a killed harness has left running.
    "HIVE_AGENT_RUN",
    "HIVE_PARENT_PID",
)
_SYSTEMS = "HIVE_AGENT_ENVIRONMENT"
"""Names what the agent's system has for every turn (`hyperhive.environment` of its agent.nix), between spaces."""


def environment(variables: Mapping[str, str], needed: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """Those of `variables` that every agent CLI needs, this one needs (`needed`), or agent.toml (`extra`) or agent.nix
    names.

    A `*` at the end of a pattern stands for any ending. What a backend sets itself it puts over this.
    """
    patterns = (*_EVERY_PROGRAM, *needed, *extra, *variables.get(_SYSTEMS, "").split())
    whole = {pattern for pattern in patterns if not pattern.endswith("*")}
    beginnings = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {name: value for name, value in variables.items() if name in whole or name.startswith(beginnings)}
