"""Pure checks of the results of trials."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.doctor.findings import CommandOutput, Finding, error, ok, warning
from hive_core.errors import HiveError
from hive_core.settings import Settings


@dataclass(frozen=True)
class TrialFacts:
    """The results of the trials.

    `unit` is the error of reading container@.service, None if there is none. `bus` is the answer to a request for every
    property of a unit that the runtime reads. `dynamic_user` is the output of `id -un` in a unit with DynamicUser=.
    `builds` is True if builds are evaluated without privileges, or the error. Both are None where this user cannot try.
    """

    unit: HiveError | None
    bus: CommandOutput
    dynamic_user: CommandOutput | None = None
    builds: bool | HiveError | None = None


def check_git_trial(problem: str) -> Finding:
    """Check the result of the trial of git; `problem` is its difference from what the gate needs."""
    if problem:
        remedy = "see which version of git this is; no proposal can be imported with it"
        return error("git-trial", f"git does not behave as the gate needs: {problem}", remedy)
    return ok("git-trial", "git imports a commit, and refuses a bad one")


def check_trials(facts: TrialFacts, settings: Settings) -> list[Finding]:
    """Check the results of the trials of systemd and Nix."""
    found = [_bus(facts)]
    if facts.dynamic_user is not None:
        found.append(_dynamic_user(facts.dynamic_user, settings))
    if facts.builds is None:
        what = "builds in their unit were not tried: only root can, once the state directory exists"
        found.append(warning("build-unit", what, "run the doctor as root, after the first start of the daemon"))
    else:
        found.append(_builds(facts.builds, settings))
    return found


def _bus(facts: TrialFacts) -> Finding:
    check, remedy = "dbus", "see which version of systemd this is (systemctl --version), and report it"
    if facts.bus.failed:
        return error(check, f"systemd does not report the properties that are needed: {facts.bus.failed}", remedy)
    # A missing unit is another finding.
    if facts.unit is not None and facts.unit.code != "no_container_unit":
        return error(
            check, f"the answer of systemd about container@.service is not understood: {facts.unit.message}", remedy
        )
    return ok(check, "systemd reports all that is needed over D-Bus")


def _dynamic_user(said: CommandOutput, settings: Settings) -> Finding:
    check = "dynamic-user"
    if not said.failed:
        return ok(check, "a unit with a user of its own has an account (nss-systemd)")
    what = f"a unit with a user of its own has no account: {said.failed}"
    if settings.nixos.build_user == "root":
        return ok(check, f"{what}; builds run as root")
    remedy = "have nss-systemd in /etc/nsswitch.conf (Debian: libnss-systemd), unless builds work without (build-unit)"
    return warning(check, what, remedy)


def _builds(builds: bool | HiveError, settings: Settings) -> Finding:
    check = "build-unit"
    if isinstance(builds, HiveError):
        return error(check, builds.message, builds.hint or "see the daemon's log")
    if builds or settings.nixos.build_user == "root":
        return ok(check, "proposals of agents can be evaluated in a confined unit")
    return warning(check, "proposals of agents are evaluated as root", "see the other findings about Nix")
