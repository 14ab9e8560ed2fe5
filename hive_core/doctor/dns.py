"""The DNS that agents are shown, compared with the host's."""

from __future__ import annotations

from pathlib import Path

from hive_core.doctor.findings import Finding, error
from hive_core.infra.storage import files
from hive_core.runtimes.nixos.containers import config_files


def check_dns(host: str | None, shown: str | None) -> list[Finding]:
    """Compare the host's resolv.conf with the copy that agents are shown; None is one that does not exist."""
    if shown is None or (host or "") == shown:
        return []
    what = "agents are shown another resolv.conf than the host's: names may not resolve for them"
    return [error("dns", what, "see the daemon's log, and restart the daemon")]


def follows_dns(file: Path, dns: Path) -> bool:
    """Return False if the conf file of a container with the host's network does not show it the directory `dns`."""
    try:
        text = files.read(file) or ""
    except OSError:
        return True  # This user cannot see it.
    if config_files.conf_value(text, "PRIVATE_NETWORK") != "0":
        return True
    flags = (config_files.conf_value(text, "EXTRA_NSPAWN_FLAGS") or "").split()
    return any(flag.startswith(config_files.dns_mark(dns)) for flag in flags)


def text_of(path: Path) -> str | None:
    """Read a short text, also through a link; None if it does not exist or this user cannot read it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
