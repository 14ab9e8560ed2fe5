"""The agent, the number and the caller that a request names."""

from __future__ import annotations

from hive_core.agents.registry import check_name
from hive_core.api.endpoint import ApiCall, Caller
from hive_core.errors import bad_request
from hive_core.gate.policy import Principal
from hive_core.protocol.names import PERSON


def agent_name(call: ApiCall) -> str:
    """Return the agent in the path, which may not exist; raises `bad_name`, as it becomes part of a path on disk."""
    name = call.path["name"]
    check_name(name)
    return name


def number_of(call: ApiCall) -> int:
    """Return the id in the path; raises `invalid_request` if it is none."""
    text = call.path["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) < 2**63):
        raise bad_request("the id in the path is no positive number", "use the id that the hive gave")
    return int(text)


def place_of(call: ApiCall) -> int:
    """Return the place of a file in the path, from 0. Raises `invalid_request` if it is none."""
    text = call.path["file"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise bad_request("the file in the path is no number", "give its place in `files` of the answer, from 0")
    return int(text)


def principal_of(caller: Caller) -> Principal:
    """Return the caller as a party; the actor is looked up now, while the caller is connected."""
    if caller.kind == "person":
        return Principal(PERSON + caller.name, "operator", caller.actor, caller.sees)
    if caller.kind == "visitor":
        raise TypeError("nobody is a party who is not signed in")
    return Principal(caller.name, caller.kind, caller.actor)
