"""The protocol's models."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hive_core.protocol import AgentConfig, Profile, SendAnswer, SendRequest


def test_requests_are_closed_and_strict() -> None:
    """An unknown field or a value of another type is refused, not guessed at."""
    for text in ('{"to": "bob", "body": "x", "cc": "ada"}', '{"to": "bob", "body": 5}', '{"to": "bob"}'):
        with pytest.raises(ValidationError):
            SendRequest.model_validate_json(text)


def test_answers_are_read_leniently() -> None:
    """An older harness understands a newer daemon: unknown fields are skipped, also in an agent's configuration."""
    assert SendAnswer.model_validate_json('{"id": 1, "recipients": ["bob"], "new": true}').id == 1
    text = """{"name": "bob", "kind": "agent", "config": {"backend": "claude", "egress": "none"}, "prompt": "",
        "deployment": 0, "lease_seconds": 5, "new": 1}"""
    assert Profile.model_validate_json(text).config.backend == "claude"
    with pytest.raises(ValidationError):
        AgentConfig.model_validate({"egress": "none"})
