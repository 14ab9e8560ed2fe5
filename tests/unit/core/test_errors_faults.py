"""Faults of documents: plain words, places, and suggestions."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from hive_core.errors.faults import dotted, find_faults, known_keys, nearest
from hive_core.protocol import AgentConfig, SendRequest, SpawnRequest
from hive_core.settings import Settings

FAULTS: list[tuple[type[BaseModel], dict[str, Any], list[str]]] = [
    (AgentConfig, {"modle": "x"}, ["modle: there is no such key, did you mean 'model'?"]),
    (AgentConfig, {"zzzz": "x"}, ["zzzz: there is no such key"]),
    (AgentConfig, {"\x1b[2J": 1}, [r"'\x1b[2J': there is no such key"]),
    (AgentConfig, {"memory_max": "3"}, ["memory_max: it must be a size in MiB or GiB, such as 512M or 3G"]),
    (AgentConfig, {"memory_max": 3}, ["memory_max: it must be a size in MiB or GiB, such as 512M or 3G"]),
    (AgentConfig, {"tasks_max": 1}, ["tasks_max: it must be at least 16"]),
    (AgentConfig, {"turn_timeout": float("nan")}, ["turn_timeout: it may be at most 86,400"]),
    (AgentConfig, {"tools": ["Bash", 3]}, ["tools[1]: it must be a text"]),
    (AgentConfig, {"network": "open"}, ["network: it must be 'host' or 'sealed'"]),
    (
        AgentConfig,
        {"mcp_servers": {"a": {"comand": "x"}}},
        ["mcp_servers.a.comand: there is no such key, did you mean 'command'?"],
    ),
    (
        AgentConfig,
        {"script": [{}, {"send": [{"to": "%"}]}]},
        [
            "script[1].send[0].to: it must be the name of an agent, operator, * or @ and a label",
            "script[1].send[0].text: it is missing",
        ],
    ),
    (SendRequest, {"to": "ada", "body": " \n"}, ["body: it is empty"]),
    (SpawnRequest, {"name": "a", "prompt": "x" * 100_001}, ["prompt: it may have at most 100,000 characters"]),
    (Settings, {"approval": {"rules": [{"nme": "x"}]}}, ["approval.rules[0].name: it is missing"]),
    (Settings, {"limits": {"memory": "1G"}}, ["limits.memory: there is no such key, did you mean 'memory_max'?"]),
]


@pytest.mark.parametrize(("model", "document", "expected"), FAULTS, ids=range(len(FAULTS)))
def test_faults_in_words(model: type[BaseModel], document: dict[str, Any], expected: list[str]) -> None:
    """A fault names its place as its author wrote it, and says in words what is wrong and what was meant."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    faults = find_faults(caught.value, model, len(expected))
    assert [f"{fault.place}: {fault.reason}" for fault in faults] == expected


@pytest.mark.parametrize("model", [AgentConfig, SpawnRequest, SendRequest, Settings])
def test_no_pattern_is_shown(model: type[BaseModel]) -> None:
    """Nobody reads a regular expression to learn the form of a text."""
    wrong = dict.fromkeys(model.model_fields, "\x00 ")
    with pytest.raises(ValidationError) as caught:
        model.model_validate(wrong)
    reasons = [fault.reason for fault in find_faults(caught.value, model, 100)]
    assert len(reasons) > 1
    assert not [reason for reason in reasons if "pattern" in reason or "should" in reason]


def test_a_long_key_is_not_compared() -> None:
    """A key of megabytes costs no time, as nothing near it is looked for."""
    assert nearest("memory_max" * 100_000, list(AgentConfig.model_fields)) == ""


def test_known_keys_of_a_place_that_is_no_table() -> None:
    """The place of a fault may be anything, as its author chose the keys."""
    assert known_keys(AgentConfig, ["tools", 3, "x"]) == []
    assert known_keys(AgentConfig, ["nothing", "x"]) == []
    assert known_keys(AgentConfig, ["script", 0, "send", 1]) == ["to", "text"]


def test_dotted() -> None:
    """The path of a key reads as its author would write it."""
    assert dotted(["approval", "rules", 0, "when"]) == "approval.rules[0].when"
    assert dotted([]) == ""


def test_the_forms_stay_in_the_schema() -> None:
    """The API's document still has the patterns, for programs."""
    assert "pattern" in str(TypeAdapter(AgentConfig).json_schema()["properties"]["memory_max"])
