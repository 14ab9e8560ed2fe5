"""The doctor's checks of disk quotas."""

from __future__ import annotations

import pytest

from hive_core.doctor.quota_checks import QuotaFacts, check_disk_quotas
from hive_core.settings import LimitCeilings, Settings

LIMITED = Settings(limits=LimitCeilings(disk_max="20G"))


@pytest.mark.parametrize(
    ("facts", "settings", "agents", "said"),
    [
        (QuotaFacts({"/var": ""}, root=False), LIMITED, {}, "runs as root"),
        (QuotaFacts({"/var": "none here", "/nix": ""}, root=True), LIMITED, {}, "can fill the disk: /var: none here"),
        (
            QuotaFacts({"/var": ""}, root=True),
            LIMITED,
            {"ada": "ada was made before", "bob": ""},
            "ada has no disk quota",
        ),
        (QuotaFacts({"/var": ""}, root=True), Settings(), {}, "agents without disk_max"),
    ],
)
def test_what_lets_an_agent_fill_the_disk(
    facts: QuotaFacts, settings: Settings, agents: dict[str, str], said: str
) -> None:
    """Each is a warning with the reason and what to do, since the hive works."""
    [finding] = check_disk_quotas(facts, settings, agents)
    assert (finding.severity, finding.check) == ("warning", "disk-quota")
    assert said in finding.what
    assert finding.remedy


def test_quotas_that_hold() -> None:
    """Quotas with a limit for every agent are as they should be, and so is a ceiling, which is a limit."""
    for settings in (LIMITED, Settings(ceilings=LimitCeilings(disk_max="20G"))):
        [finding] = check_disk_quotas(QuotaFacts({"/var": ""}, root=True), settings, {"ada": ""})
        assert finding.severity == "ok"
