"""Pure checks of the settings, the daemon and deployments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hive_core.agents.grants.limits import excesses
from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.errors import HiveError
from hive_core.infra.storage.credential_keys import Protection
from hive_core.protocol import AgentStatus, Deployment, HiveStatus, Limits
from hive_core.settings import Settings
from hive_core.text import format_bytes

_MUCH_USED = 0.8
"""Share of database_limit from which the operator is warned."""


class Unanswered(Exception):
    """The daemon gave no answer to a request; has the code, message and hint of an error."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class DaemonFacts:
    """The answers of the daemon; `problem` says why there are none."""

    status: HiveStatus | None = None
    problem: Unanswered | None = None
    agents: list[AgentStatus] = field(default_factory=list)
    newest: Mapping[str, Deployment] = field(default_factory=dict)


def check_hive(hive: DaemonFacts, settings: Settings, version: str) -> list[Finding]:
    """Compare the daemon with `settings`, which this program has read, and with `version`, that of this program."""
    if hive.problem is not None:
        judged = warning if hive.problem.code == "no_permission" else error
        remedy = hive.problem.hint or "see the daemon's log"
        return [judged("daemon", hive.problem.message, remedy)]
    status = hive.status
    if status is None:
        return []
    again = "restart the daemon, or run the doctor with the daemon's settings (--config, HIVE_ variables)"
    found = [ok("daemon", f"the daemon answers, version {status.version}")]
    if status.version != version:
        what = f"the daemon is version {status.version}, and installed is {version}"
        found = [warning("daemon", what, "restart the daemon")]
    read, runs = settings.runtime, status.runtime
    if runs != read:
        found.append(warning("settings-in-use", f'the daemon has runtime = "{runs}", the settings say "{read}"', again))
    if status.state_dir != str(settings.layout.state_dir):
        what = f"the daemon keeps its state in {status.state_dir}, the settings say {settings.layout.state_dir}"
        found.append(warning("settings-in-use", what, again))
    if status.dashboard_problem:
        remedy = "free the address, or set another in dashboard.listen and dashboard.origin, and restart the daemon"
        found.append(error("dashboard", f"the dashboard does not run: {status.dashboard_problem}", remedy))
    elif status.dashboard:
        found.append(ok("dashboard", f"the dashboard is {status.dashboard}"))
    if status.missing_environment:
        what = f"the daemon's environment lacks variables of pass_environment: {', '.join(status.missing_environment)}"
        remedy = "set them where the daemon is started (EnvironmentFile= of its unit), then restart it"
        found.append(warning("environment", what, remedy))
    if status.database_bytes > _MUCH_USED * status.database_limit > 0:
        used, limit = format_bytes(status.database_bytes), format_bytes(status.database_limit)
        full = status.database_bytes >= status.database_limit
        what = f"the database uses {used} of {limit}" + ("; messages of agents are refused" if full else "")
        remedy = "read the inbox, lower retention_days, or raise database_limit"
        found.append((error if full else warning)("database-limit", what, remedy))
    return found


def check_settings(settings: Settings | HiveError) -> list[Finding]:
    """Check the settings, or report the error of reading them."""
    if isinstance(settings, HiveError):
        return [error("settings", settings.message, settings.hint or "correct the settings")]
    found = [ok("settings", f'the settings are good, runtime = "{settings.runtime}"')]
    for each in excesses(Limits.model_validate(settings.limits.model_dump()), settings.ceilings):
        what = f"limits.{each.key} is {each.asked}, and ceilings.{each.key} is {each.ceiling}: the ceiling holds"
        found.append(warning("settings", what, "lower the one or raise the other"))
    return found


def check_variables(unknown: Sequence[str]) -> list[Finding]:
    """Warn of variables of this environment that look like settings; `unknown` is one sentence for each."""
    return [warning("settings", each, "correct its name, or remove it") for each in unknown]


def check_providers(settings: Settings, problems: Mapping[str, str], relay_problem: str) -> list[Finding]:
    """Check the keys of providers of models; `problems` says by the names of keys why the relay cannot use them.

    `relay_problem` says why the relay's unit does not run, on a host where it is one.
    """
    found = []
    for name, provider in settings.relay.providers.items():
        for key in provider.keys:
            if key in problems:
                what = f"the provider {name} of models cannot use its key {key}: {problems[key]}"
                remedy = "put the key into that file, with the mode 0600, and restart the daemon"
                found.append(error("providers", what, remedy))
    if settings.relay.providers and relay_problem:
        found.append(error("relay", relay_problem, "see: systemctl status hive-relay"))
    if settings.relay.providers and not found:
        found.append(ok("providers", f"providers of models: {', '.join(sorted(settings.relay.providers))}"))
    return found


@dataclass(frozen=True)
class StateFacts:
    """Facts about a state directory. `lost` are applied repositories of which the database knows nothing.

    `schema` is that of the database, None if there is none; `problem` says why it cannot be used.
    """

    schema: int | None = None
    problem: HiveError | None = None
    lost: Sequence[str] = ()


def check_state(state: StateFacts) -> list[Finding]:
    """Check that the database is whole and knows the agents that have applied repositories."""
    restore = "stop the daemon and restore a backup: hive-c0re restore"
    if state.problem is not None:
        return [error("database", state.problem.message, state.problem.hint or restore)]
    if state.lost:
        names = ", ".join(state.lost[:5]) + (", ..." if len(state.lost) > 5 else "")
        what = "is missing" if state.schema is None else "knows nothing of them"
        return [error("database", f"there are applied repositories ({names}), and the database {what}", restore)]
    return [] if state.schema is None else [ok("database", f"the database is whole, schema {state.schema}")]


@dataclass(frozen=True)
class CredentialFacts:
    """Facts about the keys of credentials; `protection` is that of the one in use, None if there are no credentials.

    `not_sealed` says why the key is in a file, and `problems` which keys cannot be used, with reasons.
    """

    protection: Protection | None = None
    not_sealed: str = ""
    problems: Sequence[str] = ()


def check_credentials(facts: CredentialFacts) -> list[Finding]:
    """Say what protects the credentials, and check that they can be decrypted on this host."""
    remedy = "store these credentials anew (hive-c0re secret set), or move the hive back to the host that made them"
    found = [warning("credentials", f"a key of credentials cannot be used: {why}", remedy) for why in facts.problems]
    if facts.protection == "systemd-creds":
        found.append(ok("credentials", "credentials are encrypted with a key that systemd-creds seals to this host"))
    elif facts.protection == "key-file":
        why = f" ({facts.not_sealed})" if facts.not_sealed else ""
        found.append(ok("credentials", f"credentials are encrypted with a key in a file of mode 0600{why}"))
    return found


def check_backends(agents: Sequence[AgentStatus], missing: Mapping[str, str]) -> list[Finding]:
    """Check that every agent has the program of its backend, of which `missing` are not there, and is logged in."""
    found = []
    for agent in agents:
        if agent.backend in missing:
            what = f"{agent.name} has no program for its backend: {missing[agent.backend]} is not installed"
            remedy = f"install {missing[agent.backend]} where agents see it, or change the backend of {agent.name}"
            found.append(warning("program", what, remedy))
        if agent.state == "needs_login":
            what = f"{agent.name} needs a login; its messages wait"
            found.append(
                warning(
                    "login", what, f"hive-c0re login {agent.name}, or log in on its page (hive-c0re open {agent.name})"
                )
            )
    return found


def check_networks(agents: Sequence[AgentStatus]) -> list[Finding]:
    """Name the agents that have the host's network although nobody has decided so, and those that nothing seals."""
    named = [agent.name for agent in agents if agent.network == "host" and not agent.network_implied]
    found = (
        [ok("network", f"with the host's network, as their configurations say: {', '.join(named)}")] if named else []
    )
    for agent in agents:
        if agent.network_implied:
            what = (
                f"{agent.name} has the host's network, from before sealed was the default: its configuration names none"
            )
            remedy = (
                f'hive-c0re edit {agent.name}, and name network = "sealed" in agent.toml, with allowed_hosts for what '
                'it needs; or network = "host", to keep it'
            )
            found.append(warning("network", what, remedy))
        if agent.unsealed:
            what = f"{agent.name} is NOT SEALED: it has the host's network, whatever its configuration says"
            remedy = "install bubblewrap and allow user namespaces, and take unsealed = true out of the settings"
            found.append(warning("network", what, remedy))
    return found


@dataclass(frozen=True)
class RunningAgent:
    """One agent: its status, the newest of its deployments, and the state of the disk.

    `started_on` is the closure on which the container is started, "" if there is none, None where there are no
    containers or where this user cannot read it. `closure_exists` is None where this user cannot read that.
    `follows_dns` is False if its container keeps the resolv.conf of its start.
    """

    agent: AgentStatus
    newest: Deployment | None
    started_on: str | None
    closure_exists: bool | None
    follows_dns: bool = True


def check_deployed(running: Sequence[RunningAgent]) -> list[Finding]:
    """Check that every agent runs what was deployed, and that this can be started again."""
    found = [finding for one in running for finding in _check_agent(one)]
    return found or [ok("deployed", "every agent has the deployment that was approved")]


def _check_agent(one: RunningAgent) -> list[Finding]:
    name, newest = one.agent.name, one.newest
    if newest is None:
        what = f"{name} has no deployment in its history"
        return [error("deployed", what, "hive-c0re proposals reindex, and see the daemon's log")]
    found = []
    if one.agent.deployment != newest.number:
        what = f"{name} is on deployment {one.agent.deployment}, and {newest.number} was deployed last"
        found.append(warning("deployed", what, f"see hive-c0re proposals --agent {name}: one may be in progress"))
    elif one.started_on in (None, newest.closure) or one.agent.lifecycle in ("stopped", "failed"):
        pass  # The closure of a container that does not run is set at its next start.
    elif one.started_on == "":
        what = f"the container of {name} has no closure to start on"
        found.append(error("deployed", what, f"hive-c0re restart {name}"))
    else:
        what = f"the container of {name} is started on {one.started_on}, and approved was {newest.closure}"
        found.append(error("deployed", what, f"find out who changed it, then hive-c0re restart {name}"))
    if one.closure_exists is False:
        what = f"the build output that {name} was deployed with no longer exists: {newest.closure}"
        found.append(error("closure", what, f"hive-c0re rebuild {name}"))
    if not one.follows_dns and one.agent.lifecycle not in ("stopped", "failed"):
        what = f"{name} keeps the DNS of its start, whatever becomes of the host's"
        found.append(warning("dns", what, f"hive-c0re restart {name}"))
    if one.agent.needs_update:
        what = f"{name} was built with an older hyperhive than the hive's own"
        found.append(warning("updates", what, f"hive-c0re rebuild {name}"))
    return found
