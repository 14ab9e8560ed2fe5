"""The daemon's settings: names, defaults, limits and sources.

Later sources win: defaults, the TOML file (`--config`, or `/etc/hyperhive/config.toml` if it exists), environment
variables `HIVE_<NAME>`, flags of `hive-c0re serve`. `docs/operating.md` lists them; a test holds the two together.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from hive_core.errors import HiveError
from hive_core.errors.faults import dotted, find_faults, in_words, known_keys, nearest
from hive_core.layout import DEFAULT_STATE_DIR, Layout, default_run_dir
from hive_core.protocol.config.host_access import BindName, DeviceName, OfferedBind
from hive_core.protocol.config.limits import CpuQuota, IoWeight, MemorySize, TasksMax
from hive_core.protocol.models.budgets import BudgetSettings
from hive_core.protocol.models.settings import RelaySettings
from hive_core.protocol.network.services import ServiceAddressText, ServiceName
from hive_core.protocol.network.settings import Egress
from hive_core.protocol.people.dashboard import DashboardSettings
from hive_core.protocol.people.settings import AccountSettings
from hive_core.protocol.work.settings import RepositorySettings
from hive_core.text import shown

DEFAULT_FILE = Path("/etc/hyperhive/config.toml")
ENVIRONMENT_PREFIX = "HIVE_"
_CONTAINERS = Path("/var/lib/nixos-containers")


class AutoRule(BaseModel):
    """A rule that approves a built proposal automatically; its name is written into the tag.

    `when`: `prompt_only` (only prompt.md changed), `limits_lowered` (only limits in agent.toml changed, none was
    raised), `paths` (only files that match one of the glob patterns in `paths` changed, never agent.toml's).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9 _-]{1,64}$", description="What the tag says approved it."),
        in_words("it must have 1 to 64 letters, digits, spaces, _ and -"),
    ]
    when: Annotated[Literal["prompt_only", "limits_lowered", "paths"], Field(description="What the rule asks for.")]
    paths: Annotated[list[str], Field(max_length=100, description="Glob patterns, for `when` = `paths`.")] = []


class Approval(BaseModel):
    """The required approvals; `both` means the manager first and then the operator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Annotated[
        Literal["manager", "operator", "both"], Field(description="An agent's proposal about itself.")
    ] = "manager"
    manager_config: Annotated[
        Literal["manager", "operator", "both"], Field(description="The manager's proposals, and those about it.")
    ] = "operator"
    spawn: Annotated[Literal["manager", "operator", "both"], Field(description="A new agent.")] = "operator"
    destroy: Annotated[Literal["manager", "operator", "both"], Field(description="The end of an agent.")] = "operator"
    work: Annotated[
        str,
        Field(
            pattern=r"^(manager|operator|both|agent:[a-z]([a-z0-9-]{0,7}[a-z0-9])?)$",
            description="Proposals of work about repositories that name nobody else; `agent:NAME` is an agent.",
        ),
        in_words("it must be manager, operator, both or agent:NAME"),
    ] = "operator"
    network: Annotated[
        Literal["manager", "operator"], Field(description="An agent's request to reach a host for a time.")
    ] = "operator"
    rules: Annotated[
        list[AutoRule], Field(max_length=100, description="Rules that decide before anyone is asked.")
    ] = []


class NixOS(BaseModel):
    """Settings of the `nixos` runtime."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flake: Annotated[
        str, Field(min_length=1, max_length=2_000, description="Flake of hyperhive that agents are built with.")
    ] = "github:hyperhive/hyperhive"
    user_namespaces: Annotated[
        bool, Field(description="Run containers so that their root is nobody on the host (`PRIVATE_USERS=pick`).")
    ] = True
    build_user: Annotated[
        Literal["auto", "dynamic", "root"],
        Field(
            description="Who evaluates: `dynamic`, a user of its own through the Nix daemon; `root`; "
            "`auto`, root where the first does not work."
        ),
    ] = "dynamic"
    build_memory: Annotated[
        MemorySize, Field(description="Most memory of an evaluation, and of a build with its builders.")
    ] = "4G"
    build_tasks: Annotated[TasksMax, Field(description="Most tasks of an evaluation, and of a build.")] = 512
    build_disk: Annotated[
        MemorySize, Field(description="Most that a build writes to the disk, and that it fetches from substituters.")
    ] = "32G"
    updates: Annotated[
        Literal["manual", "auto"],
        Field(description="Whether agents built with an older hyperhive are rebuilt on request or by themselves."),
    ] = "manual"
    updates_at_once: Annotated[int, Field(ge=1, le=100, description="Agents that are updated side by side.")] = 2


class Checks(BaseModel):
    """The limits of a check of proposed work; each check has a time limit of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory: Annotated[MemorySize, Field(description="Most memory of a check, with all that it starts.")] = "2G"
    tasks: Annotated[TasksMax, Field(description="Most processes and threads of a check.")] = 512
    disk: Annotated[
        MemorySize, Field(description="Most that a check may have on the disk, with the files of the repository.")
    ] = "8G"
    cpu_quota: Annotated[
        CpuQuota, Field(description="Processor time of a check, in percent of a core (nixos runtime only).")
    ] = 400
    output: Annotated[MemorySize, Field(description="Most that a check may print.")] = "64M"
    at_once: Annotated[int, Field(ge=1, le=100, description="Checks that run side by side.")] = 2


class LimitCeilings(BaseModel):
    """Limits: `memory_max` ("3G"), `disk_max`, `cpu_quota` (percent of a core), `tasks_max`, `io_weight`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_max: Annotated[MemorySize | None, Field(description="Memory, in MiB or GiB.")] = None
    disk_max: Annotated[
        MemorySize | None, Field(description="All that an agent can write, in MiB or GiB, where there are disk quotas.")
    ] = None
    cpu_quota: Annotated[CpuQuota | None, Field(description="Processor time, in percent of a core.")] = None
    tasks_max: Annotated[TasksMax | None, Field(description="Processes and threads.")] = None
    io_weight: Annotated[IoWeight | None, Field(description="Share of the disk; 100 is everybody's.")] = None


class Budgets(BaseModel):
    """The most that one agent may send and have waiting; a message to several recipients counts once for each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages_per_minute: Annotated[int, Field(ge=1, description="Messages that an agent may send in a minute.")] = 600
    bytes_per_minute: Annotated[int, Field(ge=1, description="Bytes of their bodies.")] = 16 * 1024 * 1024
    messages_per_minute_to_one: Annotated[
        int, Field(ge=1, description="Messages that it may send to the same recipient in a minute.")
    ] = 300
    bytes_per_minute_to_one: Annotated[int, Field(ge=1, description="Bytes of their bodies.")] = 8 * 1024 * 1024
    unacknowledged: Annotated[int, Field(ge=1, description="Messages of an agent that may wait, in all inboxes.")] = (
        10_000
    )
    unacknowledged_bytes: Annotated[int, Field(ge=1, description="Bytes of their bodies.")] = 64 * 1024 * 1024
    unacknowledged_to_one: Annotated[
        int, Field(ge=1, description="Messages of an agent that may wait in the inbox of one recipient.")
    ] = 1_000
    unacknowledged_bytes_to_one: Annotated[int, Field(ge=1, description="Bytes of their bodies.")] = 16 * 1024 * 1024
    loop_messages_per_minute: Annotated[
        int, Field(ge=1, description="Messages in a minute to which agents that only answer each other are slowed.")
    ] = 10


class Settings(BaseModel):
    """The settings of a daemon. Each field's description is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state_dir: Annotated[Path, Field(description="Directory that keeps the database and every agent's files.")] = (
        DEFAULT_STATE_DIR
    )
    run_dir: Annotated[
        Path | None,
        Field(description="Directory for sockets; `/run/hyperhive`, or `run` in a state directory of your own."),
    ] = None
    runtime: Annotated[
        Literal["local", "nixos"], Field(description="What runs the agents: child processes, or NixOS containers.")
    ] = "local"
    nixos: Annotated[NixOS, Field(description="How the nixos runtime makes containers (a table).")] = NixOS()
    limits: Annotated[LimitCeilings, Field(description="Limits of agents whose `agent.toml` sets none (a table).")] = (
        LimitCeilings()
    )
    ceilings: Annotated[
        LimitCeilings, Field(description="What no agent's limits may exceed (a table): proposals beyond are refused.")
    ] = LimitCeilings()
    sandbox: Annotated[
        Literal["auto", "bubblewrap", "none"],
        Field(description="How the local runtime confines agents; `auto` takes bubblewrap where it works."),
    ] = "auto"
    unsealed: Annotated[
        bool,
        Field(
            description="Whether agents may run with the host's network where the local runtime can seal none, "
            "whatever their `agent.toml` says."
        ),
    ] = False
    socket_group: Annotated[
        str, Field(description="Group that may use `host.sock` where it exists; else only the daemon's user.")
    ] = "hyperhive"
    dashboard: Annotated[DashboardSettings, Field(description="The web pages (a table).")] = DashboardSettings()
    checks: Annotated[Checks, Field(description="Limits of the checks of proposed work (a table).")] = Checks()
    inbox_limit: Annotated[int, Field(ge=1, description="Unacknowledged messages allowed per recipient.")] = 10_000
    budgets: Annotated[
        Budgets, Field(description="What one agent may send, and have waiting unacknowledged (a table).")
    ] = Budgets()
    database_limit: Annotated[
        MemorySize, Field(description="Size of the database beyond which agents' messages are refused.")
    ] = "4G"
    lease_seconds: Annotated[float, Field(gt=0, le=86_400, description="Seconds until an unrenewed lease ends.")] = (
        120.0
    )
    retention_days: Annotated[float, Field(ge=0, description="Days for which acknowledged messages are kept.")] = 14.0
    stop_timeout: Annotated[
        float, Field(gt=0, le=600, description="Seconds that an agent gets to stop by itself before it is killed.")
    ] = 10.0
    approval: Annotated[Approval, Field(description="Who decides on proposals (a table).")] = Approval()
    proposal_days: Annotated[
        float, Field(gt=0, le=3_650, description="Days after which an undecided proposal is withdrawn.")
    ] = 14.0
    proposal_bytes: Annotated[
        int, Field(ge=1_024, le=1_073_741_824, description="Largest proposal: its pack, and each of its files.")
    ] = 5 * 1024 * 1024
    proposal_space: Annotated[
        int,
        Field(
            ge=1_048_576,
            le=1_099_511_627_776,
            description="Size of all proposals of an agent from which on it may make no more, in bytes.",
        ),
    ] = 256 * 1024 * 1024
    proposal_files: Annotated[int, Field(ge=3, le=100_000, description="Most files in a proposal.")] = 1_000
    work_bytes: Annotated[
        int, Field(ge=1_024, le=4_294_967_296, description="Most that work may add to its branch, in bytes.")
    ] = 50 * 1024 * 1024
    work_files: Annotated[
        int, Field(ge=1, le=1_000_000, description="Most files, in all versions, that work may add to its branch.")
    ] = 10_000
    work_space: Annotated[
        int,
        Field(
            ge=1_048_576,
            le=1_099_511_627_776,
            description="Size of all work for a repository in bytes, of which each of its agents has a share.",
        ),
    ] = 2 * 1024 * 1024 * 1024
    build_timeout: Annotated[float, Field(gt=0, le=86_400, description="Seconds that a build may take.")] = 1_800.0
    health_timeout: Annotated[
        float, Field(gt=0, le=3_600, description="Seconds in which a new deployment's harness must report in.")
    ] = 60.0
    kept_deployments: Annotated[
        int, Field(ge=1, le=1_000, description="Newest deployments of an agent whose closures are kept for rollback.")
    ] = 10
    binds: Annotated[
        dict[BindName, OfferedBind],
        Field(max_length=100, description="Directories of this host that agents may ask for, by name (a table)."),
    ] = {}
    devices: Annotated[
        list[DeviceName], Field(description="Devices of this host that agents may ask for: `gpu`, `kvm`, `fuse`.")
    ] = []
    services: Annotated[
        dict[ServiceName, ServiceAddressText],
        Field(max_length=100, description="Services of this host that agents may ask for: names with `HOST:PORT`."),
    ] = {}
    pass_environment: Annotated[list[str], Field(description="Variables of the daemon that agents get too.")] = []
    repositories: Annotated[
        RepositorySettings, Field(description="Traffic with upstreams of repositories (a table).")
    ] = RepositorySettings()
    egress: Annotated[Egress, Field(description="What sealed agents may reach of the world (a table).")] = Egress()
    relay: Annotated[
        RelaySettings, Field(description="Providers of models that agents use without having keys (a table).")
    ] = RelaySettings()
    budget: Annotated[
        BudgetSettings, Field(description="What agents may spend on models, each and together (a table).")
    ] = BudgetSettings()
    accounts: Annotated[AccountSettings, Field(description="How long people stay signed in (a table).")] = (
        AccountSettings()
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="Least level that is logged.")
    ] = "info"

    @model_validator(mode="after")
    def _check_binds(self) -> Self:
        """Refuse directories of the hive, and one within another that agents can write, who could replace it."""
        places = {"the state directory": self.layout.state_dir, "the run directory": self.layout.run_dir}
        places["the directory of containers"] = _CONTAINERS
        if self.relay.credentials is not None:
            places["the directory of the relay's keys"] = self.relay.credentials
        for name, offered in self.binds.items():
            others = {f"binds.{other}": each.path for other, each in self.binds.items() if each.writable}
            others.pop(f"binds.{name}", None)
            inside = [what for what, place in {**places, **others}.items() if offered.path.is_relative_to(place)]
            around = [what for what, place in places.items() if place.is_relative_to(offered.path)]
            if inside or around:
                where = f"within {inside[0]}" if inside else f"around {around[0]}"
                why = f"binds.{name} offers a directory {where}, which no agent may see or replace"
                raise PydanticCustomError("bad_bind", "{why}", {"why": why})
        return self

    @property
    def layout(self) -> Layout:
        """Return the paths under these settings."""
        state = self.state_dir.absolute()
        return Layout(state_dir=state, run_dir=(self.run_dir or default_run_dir(state)).absolute())


_OTHER_VARIABLES = frozenset(
    {
        "HIVE_SOCKET",  # of the command line
        *("HIVE_CLAUDE", "HIVE_CODEX", "HIVE_GEMINI", "HIVE_OPENCODE"),  # programs of agents, in pass_environment
        *("HIVE_PYTHON", "HIVE_LOADER", "HIVE_NIX_SHELL", "HIVE_NIXPKGS", "HIVE_NIXOS_CONTAINER"),  # of ./dev
    }
)
"""Variables that begin as settings do and are none."""
_TABLES = frozenset(
    name for name, field in Settings.model_fields.items() if isinstance(field.default, BaseModel | dict)
)
"""Settings that are tables, which are JSON in the environment."""


def load(file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Read the settings. Raises HiveError `bad_setting` with name, source and allowed values, `bad_settings_file`."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}

    def add(settings: Mapping[str, Any], source: str) -> None:
        for key, value in settings.items():
            values[key] = value
            sources[key] = source

    path = file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    if path is not None:
        add(_read_file(path), str(path))
    for key in Settings.model_fields:
        text = environment.get(ENVIRONMENT_PREFIX + key.upper())
        if text is not None:
            add({key: _parse_variable(key, text)}, ENVIRONMENT_PREFIX + key.upper())
    add({key: value for key, value in flags.items() if value is not None}, "command line")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        (fault,) = find_faults(error, Settings)
        # What the settings as a whole are refused for is in this one.
        place = fault.place or "binds"
        source = sources.get(str(fault.path[0]) if fault.path else place, "defaults")
        raise HiveError(
            "bad_setting",
            f"setting {place!r} from {source}: {fault.reason}",
            hint=_known_keys(fault.path[:-1]) if fault.type == "extra_forbidden" else "",
        ) from None


def unknown_variables(environment: Mapping[str, str], settings: Settings) -> list[str]:
    """Return one sentence for each variable that looks like a setting and is none, and that no agent gets."""
    names = [f"{ENVIRONMENT_PREFIX}{key.upper()}" for key in Settings.model_fields]
    known = _OTHER_VARIABLES.union(names, settings.pass_environment)
    unknown = sorted(name for name in environment if name.startswith(ENVIRONMENT_PREFIX) and name not in known)
    return [f"the variable {shown(name)} is no setting{_meant(name)}" for name in unknown]


def _meant(variable: str) -> str:
    found = nearest(variable.removeprefix(ENVIRONMENT_PREFIX), [key.upper() for key in Settings.model_fields])
    return f", did you mean {ENVIRONMENT_PREFIX}{found}?" if found else ""


def _known_keys(table: Sequence[str | int]) -> str:
    where = f"keys of {dotted(table)}" if table else "settings"
    return f"known {where}: {', '.join(known_keys(Settings, table))}"


def _parse_variable(key: str, text: str) -> Any:
    if key in ("pass_environment", "devices"):
        return text.split(",")
    if key in _TABLES:
        try:
            return json.loads(text)
        except ValueError:
            raise HiveError("bad_setting", f"{ENVIRONMENT_PREFIX}{key.upper()} is not JSON") from None
    return text


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise HiveError("bad_settings_file", f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HiveError("bad_settings_file", f"{path} is not valid TOML: {error}") from None
