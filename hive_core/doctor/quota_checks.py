"""Pure checks of the disk quotas of agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hive_core.doctor.findings import Finding, ok, warning
from hive_core.settings import Settings


@dataclass(frozen=True)
class QuotaFacts:
    """The directories that agents write, each with the reason why it cannot have quotas, empty if it can.

    `root` is False if the daemon does not run as root.
    """

    problems: Mapping[str, str]
    root: bool


def check_disk_quotas(facts: QuotaFacts, settings: Settings, agents: Mapping[str, str]) -> list[Finding]:
    """Check that no agent can fill the disk. `agents` has the reasons why running agents have no quota."""
    check = "disk-quota"
    own = "or put the state directory on a file system of its own, which agents may fill"
    if not facts.root:
        what = "an agent can fill the disk: only a daemon that runs as root sets disk quotas"
        return [warning(check, what, f"run the daemon as root, {own}")]
    without = {directory: why for directory, why in facts.problems.items() if why}
    if without:
        what = "; ".join(f"{directory}: {why}" for directory, why in without.items())
        remedy = (
            "btrfs: btrfs quota enable --simple (Linux and btrfs-progs 6.7); ext4: tune2fs -O project,quota and the "
            f"mount option prjquota; xfs: the mount option prjquota; {own}. Then restart the agents"
        )
        return [warning(check, f"an agent can fill the disk: {what}", remedy)]
    found = [
        warning(check, f"{name} has no disk quota: {why}", f"hive-c0re restart {name}")
        for name, why in agents.items()
        if why
    ]
    if settings.limits.disk_max is None and settings.ceilings.disk_max is None:
        what = "disk quotas work, but agents without disk_max in their agent.toml have none"
        found.append(warning(check, what, "set disk_max in the table limits of the settings"))
    return found or [ok(check, "what agents write is within disk quotas")]
