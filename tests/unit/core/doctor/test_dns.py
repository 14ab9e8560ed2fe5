"""The doctor's checks of the DNS of agents."""

from __future__ import annotations

from dataclasses import replace

from hive_core.doctor.dns import check_dns
from hive_core.doctor.hive_checks import check_deployed
from tests.unit.core.doctor.test_hive_checks import running


def test_a_copy_that_differs_is_an_error() -> None:
    """Agents are shown what the host has, or nothing without a daemon; a missing file is an empty one."""
    assert check_dns("nameserver 1.1.1.1\n", "nameserver 1.1.1.1\n") == []
    assert check_dns(None, "") == check_dns("x", None) == []
    [finding] = check_dns("nameserver 2.2.2.2\n", "nameserver 1.1.1.1\n")
    assert (finding.check, finding.severity) == ("dns", "error")
    assert "2.2.2.2" not in finding.what


def test_an_agent_that_keeps_the_dns_of_its_start_is_named() -> None:
    """It was started by an older hive; a stopped one follows from its next start on."""
    [finding] = check_deployed([replace(running(), follows_dns=False)])
    assert (finding.check, finding.severity, finding.remedy) == ("dns", "warning", "hive-c0re restart ada")
    assert "ada keeps the DNS of its start" in finding.what
    [finding] = check_deployed([replace(running(lifecycle="stopped"), follows_dns=False)])
    assert finding.severity == "ok"
