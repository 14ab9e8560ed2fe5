"""What a request's path names."""

from __future__ import annotations

from hive_core.agents.registry import check_name
from hive_core.api.endpoint import Call
from hive_core.errors import bad_request


def agent_name(call: Call) -> str:
    """The agent in the path, there or not. It becomes part of a path on disk, so what is no name ends here."""
    name = call.path["name"]
    check_name(name)
    return name


def number_of(call: Call) -> int:
    """The id in the path; raises `invalid_request` for what can be none."""
    text = call.path["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) < 2**63):
        raise bad_request("the id in the path is no positive number", "use the id that the hive gave")
    return int(text)
