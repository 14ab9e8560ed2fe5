"""The form of a new agent, as a request to the daemon."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import SpawnRequest
from hive_core.services.dashboard.pages.new_agent.form import FIRST_FIELDS, spawn_request


def test_first_form_asks_for_an_agent_of_defaults() -> None:
    """A form in which only the name is filled in asks for the defaults of the hive."""
    request = spawn_request({**FIRST_FIELDS, "name": " ada "})
    assert request == {"name": "ada", "config": {"backend": "claude"}}


def test_every_field_reaches_the_request() -> None:
    """All fields become settings that the daemon's models take."""
    fields = {
        "name": "ada",
        "backend": "codex",
        "model": "gpt-5",
        "provider": "main",
        "prompt": "You review.\r\nKindly.\r\n",
        "packages": "nodejs, uv\nnodejs",
        "network": "host",
        "allowed_hosts": "anthropic example.org:443",
        "allowed_recipients": "hm1nd",
        "memory_max": "3g",
        "disk_max": "",
        "cpu_quota": "150",
        "tasks_max": "200",
        "money_per_day": "2.5",
        "money_total": "",
    }
    request = spawn_request(fields, ["web"])
    assert request["start"] is False
    assert request["prompt"] == "You review.\nKindly."
    assert request["packages"] == ["nodejs", "uv"]
    read = SpawnRequest.model_validate(request)
    assert (read.config.memory_max, read.config.cpu_quota, read.config.network) == ("3G", 150, "host")
    assert read.config.budget.money_per_day == 2.5
    assert read.config.repos == ["web"]
    assert read.config.allowed_recipients == ["hm1nd"]


@pytest.mark.parametrize("text", ["many", "1e400", "nan", "1,5"])
def test_numbers_that_are_none_are_named(text: str) -> None:
    """A field that is no number is refused by its name."""
    with pytest.raises(HiveError, match="money per day is no number"):
        spawn_request({**FIRST_FIELDS, "name": "ada", "money_per_day": text})
