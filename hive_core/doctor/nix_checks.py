"""Pure checks of Nix: its program, features, settings and daemon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hive_core.doctor.findings import CommandOutput, Finding, dotted, error, ok, warning
from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER
from hive_core.settings import Settings

LEAST = (2, 8)
"""The oldest Nix that the nixos runtime was tested with."""
NEWEST = (2, 34)
"""The newest Nix that the nixos runtime was tested with."""
FEATURES = ("nix-command", "flakes")
_VERSION = re.compile(r"nix(?: \((?P<name>[^)]*)\))? (?P<number>[0-9]{1,6}(?:\.[0-9]{1,6}){1,2})")
_OWN = "Nix"
"""The text in parentheses for Nix itself; Lix has `Lix, like Nix`, Determinate Nix its own version."""


@dataclass(frozen=True)
class NixVersion:
    """The version of Nix's language and commands, and the name of the distribution; empty for Nix itself."""

    number: tuple[int, ...]
    name: str = ""

    def __str__(self) -> str:
        return f"{dotted(self.number)} ({self.name})" if self.name else dotted(self.number)


@dataclass(frozen=True)
class NixFacts:
    """The facts about Nix on this host.

    `version` is the output of `nix --version`. `settings` are the values of Nix's settings, by name; where they cannot
    be read they are empty, and `unknown` says why. `features` are those of FEATURES that are enabled, None where that
    is not known. `daemon` is the behaviour of its socket. `build_user_groups` are the groups of BUILD_USER.
    """

    version: CommandOutput
    daemon: Literal["answers", "absent", "refuses", "forbidden"]
    settings: Mapping[str, object] = field(default_factory=dict)
    unknown: str = ""
    features: frozenset[str] | None = None
    build_user_groups: frozenset[str] = frozenset()


def nix_version(said: CommandOutput) -> NixVersion | None:
    """Parse the output of `nix --version`; None if there is no version in it.

    Determinate Nix names its own version first and that of Nix at the end: `nix (Determinate Nix 3.14.0) 2.32.4`.
    """
    found = _VERSION.match(said.text.strip())
    if found is None:
        return None
    number = tuple(int(part) for part in found["number"].split("."))
    name = found["name"] or _OWN
    return NixVersion(number, "" if name == _OWN else name.partition(",")[0])


def check_nix(facts: NixFacts, settings: Settings) -> list[Finding]:
    """Check that agents can be built here."""
    found = nix_version(facts.version)
    if facts.version.missing:
        remedy = "install Nix; on NixOS it is part of the system: check the daemon's PATH"
        return [error("nix", "nix is not installed", remedy)]
    if facts.version.failed or found is None:
        said = facts.version.failed or facts.version.text.strip()[:80]
        return [error("nix", f"nix does not print its version: {said!r}", "see what nix --version prints")]
    if found.number < LEAST:
        return [error("nix", f"nix is {found}, too old", f"install {dotted(LEAST)} or newer")]
    return [_version(found), _features(facts), *_settings(facts, settings), _daemon(facts, settings)]


def _version(found: NixVersion) -> Finding:
    if found.name:
        untested = f"nix is {found}: only Nix itself was tested"
        return warning("nix", untested, "try it with: hive-c0re doctor --live")
    if found.number[:2] > NEWEST:
        return ok("nix", f"nix is {found}, newer than the newest that was tested, {dotted(NEWEST)}")
    return ok("nix", f"nix is {found}")


def _features(facts: NixFacts) -> Finding:
    if facts.features is None:
        what = "it is not known if nix-command and flakes are enabled"
        return warning("nix-features", what, "see what nix config show prints")
    missing = [name for name in FEATURES if name not in facts.features]
    return _features_missing(missing) if missing else ok("nix-features", f"{' and '.join(FEATURES)} are enabled")


def _features_missing(names: list[str]) -> Finding:
    words = " ".join(f'"{name}"' for name in FEATURES)
    remedy = f"nix.settings.experimental-features = [ {words} ]; in the host's configuration"
    what = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} not enabled in nix.conf"
    # The runtime enables them for each of its own commands.
    return warning("nix-features", f"{what}: hyperhive enables them itself, nix on the command line needs them", remedy)


def _settings(facts: NixFacts, settings: Settings) -> list[Finding]:
    """Check the settings on which the confinement of builds depends."""
    check = "nix-settings"
    if not facts.settings:
        why = facts.unknown or "no answer"
        remedy = "see what nix config show --json prints; without it, it is not known if builds are sandboxed"
        return [warning(check, f"nix does not print its settings as JSON: {why}", remedy)]
    found = []
    if facts.settings.get("sandbox") not in (True, "true"):
        what = (
            f"nix.conf has sandbox = {_shown(facts.settings.get('sandbox'))}: what agents build through the Nix daemon "
            "can run outside of its sandbox, with the network and the files of a user of this host"
        )
        found.append(warning("nix-sandbox", what, "nix.settings.sandbox = true; in the host's configuration"))
    if facts.settings.get("sandbox-fallback") not in (False, "false"):
        what = (
            "nix.conf has sandbox-fallback = true: where the Nix daemon cannot make its sandbox, what agents build "
            "through it runs without one"
        )
        remedy = "nix.settings.sandbox-fallback = false; in the host's configuration"
        found.append(warning("nix-sandbox-fallback", what, remedy))
    if not found:
        found.append(ok("nix-sandbox", "nix builds in its sandbox, and not without it"))
    found += _users(facts, settings)
    if facts.settings.get("lazy-locks") in (True, "true"):
        what = "nix.conf has lazy-locks = true: without the hash of a flake (narHash) nothing can be built"
        found.append(error("nix-lazy-locks", what, "remove lazy-locks from nix.conf"))
    if settings.nixos.build_user == "root" and not facts.settings.get("build-users-group"):
        what = 'nixos.build_user = "root", and nix.conf has no build-users-group: nothing can be built'
        found.append(error("nix-build-users", what, "set build-users-group in nix.conf"))
    return found


def _users(facts: NixFacts, settings: Settings) -> list[Finding]:
    """Check who may use the Nix daemon, and whom it trusts."""
    check, everybody, where = "nix-allowed-users", "*", "in the host's configuration"
    allowed, trusted = (_names(facts.settings.get(name)) for name in ("allowed-users", "trusted-users"))
    if allowed is None or trusted is None:
        what = "nix does not print allowed-users and trusted-users: it is not known who may use the Nix daemon"
        return [warning(check, what, "see what nix config show prints")]
    own = {everybody, BUILD_USER, *(f"@{group}" for group in facts.build_user_groups)}
    found = []
    if names := own.intersection(trusted):
        what = (
            f"nix.conf has trusted-users = {' '.join(trusted)}: with {' and '.join(sorted(names))} in it, "
            "what agents have written can choose Nix's settings, and so be root on this host"
        )
        found.append(error("nix-trusted-users", what, f'nix.settings.trusted-users = [ "root" ]; {where}'))
    remedy = f'nix.settings.allowed-users = [ "root" "@wheel" "{BUILD_USER}" ]; {where}'
    if everybody in allowed:
        what = (
            "nix.conf has allowed-users = *: every user of this host may use the Nix daemon, and so may every agent "
            "with nix_daemon = true; what it builds can use the network, and has none of the agent's limits"
        )
        found.append(warning(check, what, f"{remedy}, unless such agents are to use it"))
    elif settings.nixos.build_user != "root" and not own.intersection((*allowed, *trusted)):
        refused = settings.nixos.build_user == "dynamic"
        what = (
            f"nix.conf has allowed-users = {' '.join(allowed)}: {BUILD_USER}, which evaluates what agents propose, may "
            f"not use the Nix daemon, so {'proposals are refused' if refused else 'root evaluates them'}"
        )
        found.append((error if refused else warning)(check, what, remedy))
    else:
        found.append(ok(check, f"only {', '.join(allowed) or 'trusted users'} may use the Nix daemon, no agent"))
    return found


def _names(value: object) -> list[str] | None:
    """Return the names in a setting; None if it is not known."""
    if isinstance(value, str):
        return value.split()
    return [str(name) for name in value] if isinstance(value, list) else None


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else ascii(value)[:40]


def _daemon(facts: NixFacts, settings: Settings) -> Finding:
    check, own_user = "nix-daemon", settings.nixos.build_user
    remedy = "systemctl enable --now nix-daemon.socket"
    if facts.daemon == "answers":
        return ok(check, "the Nix daemon answers")
    if facts.daemon == "forbidden":
        return warning(
            check, "this user may not use the Nix daemon", "run the doctor as root to see whether it answers"
        )
    what = "does not exist" if facts.daemon == "absent" else "refuses connections"
    if own_user == "dynamic" or facts.daemon == "refuses":
        return error(check, f"the Nix daemon {what}", remedy)
    if own_user == "root":
        return ok(check, f'the Nix daemon {what}, and builds run as root (nixos.build_user = "root")')
    return warning(check, f"the Nix daemon {what}: proposals of agents are evaluated as root", remedy)
