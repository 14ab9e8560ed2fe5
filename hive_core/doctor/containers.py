"""Judges what runs containers: systemd, `nixos-container`, the unit `container@.service`."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.doctor.said import Said, dotted, version

SYSTEMD_TESTED = (252,)
"""The oldest systemd that the nixos runtime was tested with."""


@dataclass(frozen=True)
class ContainerFacts:
    """`booted`: whether systemd is process 1. `unit` answers `systemctl show --property=LoadState` for a container."""

    systemd: Said
    booted: bool
    nixos_container: bool
    unit: Said


def judge_containers(facts: ContainerFacts) -> list[Finding]:
    """Whether containers can be run here."""
    found = [_systemd(facts)]
    if facts.nixos_container:
        found.append(ok("nixos-container", "nixos-container is installed"))
    else:
        remedy = "boot.enableContainers = true; in the host's configuration, and look at the daemon's PATH"
        found.append(error("nixos-container", "nixos-container is not installed", remedy))
    if facts.booted:
        found.append(_unit(facts.unit))
    return found


def _systemd(facts: ContainerFacts) -> Finding:
    number = version(facts.systemd)
    if not facts.booted:
        return error("systemd", "systemd is not process 1 here", 'containers need it; or set runtime = "local"')
    if facts.systemd.failed or not number:
        said = facts.systemd.failed or facts.systemd.text.strip()[:80]
        return error("systemd", f"systemctl does not say its version: {said!r}", "see what systemctl --version prints")
    if number < SYSTEMD_TESTED:
        old = f"systemd is {dotted(number)}; nothing before {dotted(SYSTEMD_TESTED)} was tested"
        return warning("systemd", old, "update the host")
    return ok("systemd", f"systemd is {dotted(number)}")


def _unit(said: Said) -> Finding:
    check = "container-unit"
    if said.failed:
        return error(check, f"systemctl does not answer: {said.failed}", "see systemctl status")
    if "LoadState=loaded" in said.text.split():
        return ok(check, "container@.service is there")
    remedy = "boot.enableContainers = true; in the host's configuration"
    return error(check, "there is no container@.service", remedy)
