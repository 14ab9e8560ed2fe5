"""Judges what runs containers: the host's release, systemd, `nixos-container`, the unit `container@.service`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.doctor.said import Said, dotted, version

SYSTEMD_TESTED = (252,)
"""The oldest systemd that the nixos runtime was tested with."""


NIXOS_LEAST = (25, 5)
"""The oldest NixOS that is supported."""
_UPDATE = "update the host to NixOS 25.05 or newer"
_RELEASE = re.compile(r"([0-9]{2})\.([0-9]{2})")


@dataclass(frozen=True)
class ContainerFacts:
    """`booted`: whether systemd is process 1. `unit` answers `systemctl show --property=LoadState` for a container.

    `nixos_container` is the text of that program, None where it is not installed. `release` is what os-release(5) has.
    `nspawn` answers `systemd-nspawn --version`.
    """

    systemd: Said
    booted: bool
    nixos_container: str | None
    unit: Said
    nspawn: Said
    release: Mapping[str, str] = field(default_factory=dict)


def judge_containers(facts: ContainerFacts) -> list[Finding]:
    """Whether containers can be run here."""
    found = [_release(facts.release), _systemd(facts), _nixos_container(facts.nixos_container)]
    found.append(_nspawn(facts.nspawn))
    if facts.booted:
        found.append(_unit(facts.unit))
    return found


def _release(release: Mapping[str, str]) -> Finding:
    check = "nixos"
    if release.get("ID") != "nixos":
        name = ascii(release.get("ID", "unknown"))[:40]
        what = f"this host is not NixOS (os-release has {name}): the nixos runtime is for NixOS"
        return warning(check, what, 'use NixOS 25.05 or newer, or set runtime = "local"')
    number = _RELEASE.match(release.get("VERSION_ID", ""))
    if number is None:
        what = f"the release of this NixOS is not known: {ascii(release.get('VERSION_ID'))[:40]}"
        return warning(check, what, "see VERSION_ID in /etc/os-release")
    if (int(number[1]), int(number[2])) < NIXOS_LEAST:
        what = f"this host is NixOS {number[0]}; the oldest release that is supported is 25.05"
        return error(check, what, _UPDATE)
    return ok(check, f"this host is NixOS {number[0]}")


def _nspawn(said: Said) -> Finding:
    check = "nspawn"
    if said.missing:
        remedy = "install it (Debian: systemd-container), and look at the daemon's PATH"
        return error(check, "systemd-nspawn, which runs containers, is not installed", remedy)
    number = version(said)
    if said.failed or not number:
        what = f"systemd-nspawn does not say its version: {said.failed or said.text.strip()[:80]!r}"
        return error(check, what, "see what systemd-nspawn --version prints")
    return ok(check, f"systemd-nspawn is {dotted(number)}")


def _nixos_container(text: str | None) -> Finding:
    check = "nixos-container"
    if text is None:
        remedy = "boot.enableContainers = true; in the host's configuration, and look at the daemon's PATH"
        return error(check, "nixos-container is not installed", remedy)
    # Before NixOS 25.05 it named the namespaces to enter, and the user namespace was not among them.
    if "nsenter" in text and "--all" not in text:
        what = "nixos-container run and root-login do not enter the user namespace of a container: what they run there"
        what += " is root on the host, with a profile that the agent may have written"
        return error(check, what, f"use neither of them, and {_UPDATE}")
    return ok(check, "nixos-container is installed")


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
