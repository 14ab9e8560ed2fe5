"""The part of the system prompt about what the agent was given: parts of the host, and secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_core.protocol import AgentConfig
from hive_core.protocol.config.secrets import MAX_SECRETS
from hive_core.protocol.network.services import variable_of

_DEVICES: Mapping[str, str] = {
    "gpu": "the graphics processors, in `/dev/dri` and beside it",
    "kvm": "virtual machines, with `/dev/kvm`",
    "fuse": "file systems of your own programs, with `/dev/fuse`",
}
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def render_grants(config: AgentConfig, environment: AgentEnvironment) -> str:
    """Return the lines, as they are true now; empty if the agent was given nothing."""
    lines = [*_binds(config, environment), *_devices(config), *_services(config, environment)]
    return "\n".join([*lines, *_secrets(config, environment)])


def _binds(config: AgentConfig, environment: AgentEnvironment) -> Iterator[str]:
    for name in config.binds:
        variable = f"HIVE_BIND_{name.upper().replace('-', '_')}"
        path = environment.variables.get(variable)
        if path is None:
            continue
        can = "You can change it, and others see that" if os.access(path, os.W_OK) else "You can only read it"
        yield f"- `{path}` (also `${variable}`) is the directory `{name}` of the host. {can}."


def _devices(config: AgentConfig) -> Iterator[str]:
    for name in config.devices:
        yield f"- Device `{name}`: {_DEVICES[name]}."


def _services(config: AgentConfig, environment: AgentEnvironment) -> Iterator[str]:
    for name in sorted(set(config.services)):
        variable = variable_of(name)
        address = environment.variables.get(variable)
        if address is not None:
            yield f"- Service `{name}`: connect to `{address}` (also `${variable}`), directly and not through a proxy."


def _secrets(config: AgentConfig, environment: AgentEnvironment) -> Iterator[str]:
    there = _list_secrets(environment.secrets)
    in_turns = [name for name in config.secrets if name in there]
    only_files = [name for name in there if name not in in_turns]
    missing = [name for name in config.secrets if name not in there]
    place = f"`{environment.secrets}` (also `$HIVE_AGENT_SECRETS`)"
    if in_turns:
        yield f"- Secrets as variables of your programs, and as files of the same names in {place}: {_named(in_turns)}."
    if only_files:
        yield f"- Secrets only as files, in {place}: {_named(only_files)}."
    if missing:
        yield f"- Secrets that you have asked for and that the operator has not given you: {_named(missing)}."
    if there:
        yield (
            "- Pass a secret on by its variable or the path of its file. Its value belongs in no output, message, "
            "commit or other file: all of them are kept, and others read them."
        )


def _list_secrets(directory: Path) -> Sequence[str]:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError:
        return []
    return [name for name in names if _SECRET.fullmatch(name)][:MAX_SECRETS]


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
