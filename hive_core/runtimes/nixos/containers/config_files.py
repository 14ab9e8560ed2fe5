"""The conf file of a container, its bind mounts and its environment file.

systemd reads the file by the rules of EnvironmentFile= (systemd.exec(5)); `nixos-container` looks for single lines with
`^KEY=`, so what it reads too is not quoted.

The unit expands EXTRA_NSPAWN_FLAGS without quotes, so the shell splits and globs it, and nspawn splits a bind at its
colons. A path that this would change is refused.

Only the daemon can write the environment file, and only the container's root can read it, because it may hold keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.storage import files
from hive_core.runtimes.agent_environment import (
    APPLIED,
    BINDS,
    DEPLOYED,
    DNS,
    INSIDE,
    SECRETS,
    agent_variables,
    git_identity,
    inside_mirrors,
)
from hive_core.runtimes.base import AgentSpec
from hive_core.text import shown

_KEY = re.compile(r"[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,?-]*")


def rewritten_conf(text: str, owned: Mapping[str, str]) -> str:
    """Return `text` with exactly one line for every key of `owned`, in place of its first line or at the end.

    Raises ValueError for a value that no line can hold.
    """
    left = {key: _line(key, value) for key, value in owned.items()}
    kept: list[str] = []
    for part in _parts(text):
        key = _key(part)
        if key not in owned:
            kept.append(part)
        elif key in left:
            kept.append(left.pop(key))
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    if kept and kept[-1].endswith("\\\n"):
        kept[-1] += "\n"  # Or what is put behind it would be part of it.
    return "".join([*kept, *left.values()])


def conf_value(text: str, key: str) -> str | None:
    """Return the value of `key` as systemd reads it, for values as the hive writes them; None without a line."""
    found: str | None = None
    for part in _parts(text):
        match = _KEY.fullmatch(part.rstrip("\n"))
        if match is not None and match[1] == key:
            found = match[2].strip().strip('"')
    return found


def _parts(text: str) -> Iterator[str]:
    """Yield the lines, each with those that a backslash at its end continues."""
    part = ""
    for line in text.splitlines(keepends=True):
        part += line
        if not line.rstrip("\n").endswith("\\"):
            yield part
            part = ""
    if part:
        yield part


def _key(part: str) -> str | None:
    match = _KEY.fullmatch(part.rstrip("\n"))
    return None if match is None else match[1]


def _line(key: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{key}={value}\n"
    if not _PLAIN.fullmatch(value.replace(" ", "")):
        raise ValueError(f"{key} cannot hold {value!r}")
    return f'{key}="{value}"\n'


_CARRIED = re.compile(r"(/[A-Za-z0-9._+@%,=-]+)+")
_ADDRESSES = ("HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "HOST_BRIDGE")
"""The unit creates no network interface if all of these are empty."""


def check_carried(paths: Iterable[Path]) -> None:
    """Raise HiveError `path_not_carried` for a path that the unit's flags cannot carry."""
    for path in paths:
        if _CARRIED.fullmatch(str(path)) is None:
            raise HiveError(
                "path_not_carried",
                f"containers cannot be given the directory {shown(str(path))}: the unit's flags are split at spaces "
                "and colons, and the shell expands them",
                hint="choose a state and a run directory with only letters, digits and . _ + @ % , = - in their paths",
            )


def bound_directories(spec: AgentSpec) -> list[Path]:
    """Return the directories of the host that are bound into the agent's container."""
    paths = spec.paths
    shown_only = [path for path in (spec.secrets, spec.deployed, spec.applied, spec.dns) if path is not None]
    mirrors = [each.mirror for each in spec.repositories]
    binds = [bind.path for bind in spec.binds]
    return [paths.run, paths.state, paths.claude, paths.config, paths.code, *shown_only, *mirrors, *binds]


def run_mark(run: Path) -> str:
    """Return the nspawn flag by which the container of an agent is recognised: no other one binds that directory."""
    return f"--bind-ro={run}:{INSIDE.run}"


def dns_mark(dns: Path) -> str:
    """Return the nspawn flag of a container that follows changes of the host's DNS."""
    return f"--bind-ro={dns}:{DNS}"


def bind_settings(spec: AgentSpec, *, user_namespaces: bool, by_flag: bool) -> dict[str, str]:
    """Return the conf lines of a container. `by_flag`: nspawn gets a flag, because the unit ignores PRIVATE_USERS.

    SYSTEM_PATH names the closure, because the profile is bound into the container, where its root may change it.
    """
    # Or nspawn links the container's journal, under an id that its root chooses, to the host's: `journalctl --merge` of
    # the host's root would read files that an agent has written.
    flags = [*_flags(spec, ":rootidmap" if user_namespaces else ""), "--link-journal=no"]
    if user_namespaces and by_flag:
        flags.insert(0, "--private-users=pick")
    return {
        "SYSTEM_PATH": spec.closure,
        "PRIVATE_NETWORK": "1" if spec.sealed else "0",
        **dict.fromkeys(_ADDRESSES, ""),
        "PRIVATE_USERS": "pick" if user_namespaces else "no",
        "EXTRA_NSPAWN_FLAGS": " ".join(flags),
    }


def _flags(spec: AgentSpec, option: str) -> Iterable[str]:
    # With `rootidmap` the container's root is the directory's owner, and nobody else of the container can own a
    # file there; see systemd-nspawn(1).
    paths = spec.paths
    yield run_mark(paths.run) + option
    if spec.secrets is not None:
        yield f"--bind-ro={spec.secrets}:{SECRETS}{option}"
    for outside, inside in (
        (paths.state, INSIDE.state),
        (paths.claude, INSIDE.claude),
        (paths.config, INSIDE.config),
        (paths.code, INSIDE.code),
    ):
        yield f"--bind={outside}:{inside}{option}"
    for bind in spec.binds:
        yield f"--bind{'' if bind.writable else '-ro'}={bind.path}:{BINDS}/{bind.name}{option}"
    for device in spec.devices:
        yield f"--bind={device}"
    if spec.dns is not None:
        yield f"{dns_mark(spec.dns)}{option}"
    if spec.deployed is not None:
        yield f"--bind-ro={spec.deployed}:{DEPLOYED}{option}"
    if spec.applied is not None:
        inside_applied = APPLIED if spec.kind == "manager" else f"{APPLIED}/{spec.applied.name}"
        yield f"--bind-ro={spec.applied}:{inside_applied}{option}"
    mirrors = inside_mirrors(spec)
    for each in spec.repositories:
        yield f"--bind-ro={each.mirror}:{mirrors[each.name]}{option}"


_NUMBER = "HIVE_AGENT_DEPLOYMENT"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r'(["\\`$])')
_UNSUPPORTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters for which systemd ignores the variable."""


def environment_file(run: Path) -> Path:
    """Return the path of the file, which is `/run/hive/environment` in the container."""
    return run / "environment"


def harness_variables(spec: AgentSpec) -> dict[str, str]:
    """Return the variables of the harness that the hive sets."""
    return {
        **git_identity(spec.name),
        **spec.environment,
        **agent_variables(spec, INSIDE, deployed=DEPLOYED, applied=APPLIED, mirrors=inside_mirrors(spec)),
    }


def environment_text(values: Mapping[str, str]) -> str:
    """Return the content of the file (systemd.exec(5), EnvironmentFile=). Raises HiveError `bad_environment`."""
    return "".join(f"{_checked(name, value)}={_quoted(value)}\n" for name, value in values.items())


def deployment_in(content: str) -> int | None:
    """Return the deployment that a file names; None if it names none."""
    found = re.search(rf'^{_NUMBER}="([0-9]{{1,18}})"$', content, re.MULTILINE)
    return None if found is None else int(found[1])


def write_environment(spec: AgentSpec) -> None:
    """Replace the file. Raises HiveError `bad_environment` and OSError."""
    files.replace(environment_file(spec.paths.run), environment_text(harness_variables(spec)), 0o600)


def has_environment(spec: AgentSpec) -> bool:
    """Return True if the file exists and names the deployment of `spec`."""
    try:
        content = files.read(environment_file(spec.paths.run))
    except OSError:
        return False
    return content is not None and deployment_in(content) == spec.deployment


def _checked(name: str, value: str) -> str:
    if _NAME.fullmatch(name) is None or _UNSUPPORTED.search(value):
        raise HiveError(
            "bad_environment",
            f"the variable {shown(name)} cannot be given to a container: "
            "its name or its value has characters that systemd does not take",
            hint="take it out of pass_environment, or give it another value",
        )
    return name


def _quoted(value: str) -> str:
    return '"' + _ESCAPED.sub(r"\\\1", value) + '"'
