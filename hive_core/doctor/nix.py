"""Judges Nix: the program, its features, its daemon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.doctor.said import Said, dotted, version
from hive_core.settings import Settings

LEAST = (2, 8)
"""The oldest Nix that the nixos runtime was tested with."""
FEATURES = ("nix-command", "flakes")
_FEATURE_DISABLED = re.compile(r"experimental Nix feature '([\w-]+)' is disabled")
_FEATURES_LINE = re.compile(r"^experimental-features = (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class NixFacts:
    """`version` answers `nix --version`, `config` what `nix show-config` prints. `daemon` is how its socket behaves."""

    version: Said
    config: Said
    daemon: Literal["answers", "absent", "refuses", "forbidden"]


def judge_nix(facts: NixFacts, settings: Settings) -> list[Finding]:
    """Whether agents can be built here."""
    found = version(facts.version)
    if facts.version.missing:
        remedy = "install Nix; on NixOS it is part of the system: look at the daemon's PATH"
        return [error("nix", "nix is not installed", remedy)]
    if facts.version.failed or not found:
        said = facts.version.failed or facts.version.text.strip()[:80]
        return [error("nix", f"nix does not say its version: {said!r}", "see what nix --version prints")]
    if found < LEAST:
        old = f"nix is {dotted(found)}, too old"
        return [error("nix", old, f"install {dotted(LEAST)} or newer")]
    return [ok("nix", f"nix is {dotted(found)}"), _features(facts.config), _daemon(facts, settings)]


def _features(config: Said) -> Finding:
    if disabled := _FEATURE_DISABLED.search(config.failed):
        return _features_missing([disabled[1]])
    line = _FEATURES_LINE.search(config.text)
    if config.failed or line is None:
        why = config.failed or "it names no experimental-features"
        return warning("nix-features", f"nix does not tell its settings: {why}", "see what nix show-config prints")
    missing = [name for name in FEATURES if name not in line[1].split()]
    return _features_missing(missing) if missing else ok("nix-features", f"{' and '.join(FEATURES)} are enabled")


def _features_missing(names: list[str]) -> Finding:
    words = " ".join(f'"{name}"' for name in FEATURES)
    remedy = f"nix.settings.experimental-features = [ {words} ]; in the host's configuration"
    what = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} not enabled in nix.conf"
    # The runtime switches them on for each command of its own.
    return warning("nix-features", f"{what}: the hive helps itself, nix by hand does not work", remedy)


def _daemon(facts: NixFacts, settings: Settings) -> Finding:
    check, own_user = "nix-daemon", settings.nixos.build_user
    remedy = "systemctl enable --now nix-daemon.socket"
    if facts.daemon == "answers":
        return ok(check, "the Nix daemon answers")
    if facts.daemon == "forbidden":
        return warning(
            check, "this user may not use the Nix daemon", "run the doctor as root to see whether it answers"
        )
    what = "is not there" if facts.daemon == "absent" else "refuses connections"
    if own_user == "dynamic" or facts.daemon == "refuses":
        return error(check, f"the Nix daemon {what}", remedy)
    if own_user == "root":
        return ok(check, f'the Nix daemon {what}, and builds run as root (nixos.build_user = "root")')
    return warning(check, f"the Nix daemon {what}: what agents propose is evaluated as root", remedy)
