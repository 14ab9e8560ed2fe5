"""Judges the settings: whether they can be read, and whether they contradict themselves."""

from __future__ import annotations

from hive_core.agents.limits import excesses
from hive_core.doctor.findings import Finding, error, ok, warning
from hive_core.errors import HiveError
from hive_core.protocol import Limits
from hive_core.settings import Settings


def judge_settings(settings: Settings | HiveError) -> list[Finding]:
    """`settings`, or why they cannot be read."""
    if isinstance(settings, HiveError):
        return [error("settings", settings.message, settings.hint or "mend the settings")]
    found = [ok("settings", f'the settings are good, runtime = "{settings.runtime}"')]
    for each in excesses(Limits.model_validate(settings.limits.model_dump()), settings.ceilings):
        what = f"limits.{each.key} is {each.asked}, and ceilings.{each.key} is {each.ceiling}: the ceiling holds"
        found.append(warning("settings", what, "lower the one or raise the other"))
    return found
