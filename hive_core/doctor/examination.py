"""The complete examination of a host: reads the facts that the runtime depends on, and checks them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hive_core import __version__
from hive_core.doctor import dns, probes, state_probes, trials
from hive_core.doctor.findings import Finding, warning
from hive_core.doctor.hive_checks import (
    DaemonFacts,
    RunningAgent,
    check_backends,
    check_credentials,
    check_deployed,
    check_hive,
    check_networks,
    check_providers,
    check_settings,
    check_state,
    check_variables,
)
from hive_core.doctor.host_checks import (
    check_bubblewrap,
    check_cgroups,
    check_containers,
    check_disk_space,
    check_git,
    check_mounts,
    check_namespaces,
    check_permissions,
    check_ssh,
)
from hive_core.doctor.nix_checks import check_nix
from hive_core.doctor.quota_checks import check_disk_quotas
from hive_core.doctor.trial_checks import check_git_trial, check_trials
from hive_core.doctor.trials import why_git_fails
from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.protocol import HiveStatus
from hive_core.protocol.names import container_name
from hive_core.runtimes.launcher import remedy
from hive_core.runtimes.nixos.containers.inspection import HostPaths
from hive_core.runtimes.resolver import HOST
from hive_core.settings import Settings, load, unknown_variables

_PATHS = HostPaths()


def examine(file: Path | None, environment: Mapping[str, str], socket: Path, ask: probes.Ask) -> list[Finding]:
    """Return the findings of all checks, also of those that are ok. Needs no daemon and changes nothing of the hive.

    The settings of the daemon are read from `file` and `environment`; `ask` asks the daemon behind `socket`.
    """
    read = _read(file, environment)
    hive = probes.daemon_facts(ask)
    settings = Settings() if isinstance(read, HiveError) else read
    # Where a daemon runs, its own settings are the ones to check.
    running = settings if hive.status is None else _as_running(settings, hive.status, socket)
    # Without settings there is nothing to compare those of the daemon with.
    expected = running if isinstance(read, HiveError) else settings
    found = check_settings(read) + check_variables(unknown_variables(environment, expected))
    found += check_hive(hive, expected, __version__)
    return found + asyncio.run(_host(running, hive))


async def _host(settings: Settings, hive: DaemonFacts) -> list[Finding]:
    layout = settings.layout
    nixos = settings.runtime == "nixos"
    git, ssh, bwrap_version, problem = await asyncio.gather(
        probes.ask_host("git", "--version"),
        probes.ask_host("ssh", "-V"),
        probes.ask_host("bwrap", "--version"),
        probes.bubblewrap(),
    )
    found = [check_git(git), check_bubblewrap(problem, problem and remedy(problem), settings, bwrap_version)]
    if found[0].severity == "ok":
        bwrap = None if problem else shutil.which("bwrap")
        found.append(check_git_trial(await why_git_fails(bwrap)))
    found.append(check_ssh(ssh))
    if nixos:
        nix, containers = await asyncio.gather(probes.nix(), probes.containers())
        kernel = probes.read_kernel()
        found += check_nix(nix, settings) + check_containers(containers) + check_cgroups(kernel)
        if (tried := await trials.trials(settings)) is not None:
            found += check_trials(tried, settings)
        if settings.nixos.user_namespaces:
            shown = await probes.id_mapping_errors(
                [layout.state_dir, layout.run_dir, *(each.path for each in settings.binds.values())]
            )
            found += check_namespaces(kernel, shown)
    found += check_permissions(probes.read_socket_facts(layout, settings.socket_group))
    found += [check_disk_space(space) for space in probes.read_disk_space(layout, store=nixos)]
    written = (layout.agents, *((_PATHS.root_dir, _PATHS.profiles, _PATHS.gcroots) if nixos else ()))
    if nixos:
        shared = [each.path for each in settings.binds.values() if each.writable]
        found.append(check_mounts(probes.read_mount_flags([*written, *shared])))
    if (quotas := probes.read_quota_facts(layout, written)) is not None:
        found += check_disk_quotas(quotas, settings, {agent.name: agent.disk_problem for agent in hive.agents})
    seen = not probes.unreadable([layout.state_dir])
    if seen:
        found += check_state(await asyncio.to_thread(state_probes.read_state, layout))
        found += check_credentials(await state_probes.read_credentials(layout))
        keys = await asyncio.to_thread(state_probes.unusable_keys, settings)
        found += check_providers(settings, keys, await probes.relay_problem() if nixos else "")
    missing = {} if nixos else state_probes.missing_programs(settings.pass_environment)
    found += check_backends(hive.agents, missing) + check_networks(hive.agents)
    if hive.status is not None:
        found += check_deployed([_running(hive, layout, agent.name, nixos=nixos) for agent in hive.agents])
        found += dns.check_dns(dns.text_of(HOST), dns.text_of(layout.dns / HOST.name))
    if not seen:
        what = f"user {os.getuid()} cannot read {layout.state_dir}: its content was not checked"
        found.append(warning("unseen", what, "run the doctor as root, or as the daemon's user"))
    return found


def _running(hive: DaemonFacts, layout: Layout, name: str, *, nixos: bool) -> RunningAgent:
    agent = next(one for one in hive.agents if one.name == name)
    newest = hive.newest.get(name)
    return RunningAgent(
        agent,
        newest,
        probes.started_on(_PATHS.conf(container_name(name))) if nixos else None,
        probes.closure_exists(layout, newest.closure) if newest is not None else None,
        not nixos or dns.follows_dns(_PATHS.conf(container_name(name)), layout.dns),
    )


def _read(file: Path | None, environment: Mapping[str, str]) -> Settings | HiveError:
    try:
        return load(file, environment, {})
    except HiveError as error:
        return error


def _as_running(settings: Settings, status: HiveStatus, socket: Path) -> Settings:
    values: dict[str, object] = {"state_dir": Path(status.state_dir), "run_dir": socket.parent}
    if status.runtime in ("local", "nixos"):
        values["runtime"] = status.runtime
    return settings.model_copy(update=values)
