"""What is no name is refused wherever one is asked for."""

from __future__ import annotations

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.refusal_checks import Bad, check_refused, new_caller

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_NAMES = {
    "empty": "",
    "parent": "..",
    "dot": ".",
    "slash": "a/b",
    "absolute": "/etc",
    "upper case": "HM1ND",
    "ten characters": "abcdefghij",
    "digit first": "1ann",
    "dash": "a-",
    "space": "ann ",
    "line end": "ann\n",
    "NUL": "ann\x00",
    "Cyrillic look-alike": "\u0430nn",
    "full-width look-alike": "\uff41nn",
    "other digits": "ann\u0661",
    "zero-width space": "an\u200bn",
    "right-to-left override": "\u202eann",
    "escape sequence": "\x1b[2Jann",
    "quoted": "%2e%2e",
    "long": "a" * 100_000,
}
"""None of these may be an agent's name or a recipient."""

RESERVED = ("operator", "system", "all")


async def test_spawn_refuses_names(shared: Daemon) -> None:
    """No agent gets a name that could be a path, a look-alike or somebody else's."""
    names = [*NO_NAMES.values(), *RESERVED, "*"]
    table = [Bad("POST", "/v1/agents", 400, "bad_name", {"name": name, "start": False}) for name in names]
    for reply in await check_refused(shared, table):
        assert "1 to 9 characters" in reply.json["error"]["hint"]


async def test_recipients_refuse_names(shared: Daemon) -> None:
    """A message to what can be nobody is refused as a bad name, and one to nobody as unknown."""
    bad = [Bad("POST", "/v1/messages", 400, "bad_name", {"to": name, "body": "x"}) for name in NO_NAMES.values()]
    unknown = [
        Bad("POST", "/v1/messages", 404, "unknown_recipient", {"to": name, "body": "x"})
        for name in ("zoe", "system", "all")
    ]
    await check_refused(shared, bad + unknown, await new_caller(shared))


async def test_allowed_recipients_refuse_names(shared: Daemon) -> None:
    """A list of allowed recipients can hold no bad name either."""
    table = [
        Bad("POST", "/v1/agents", 400, "bad_name", {"name": "zoe", "config": {"allowed_recipients": [name]}})
        for name in ("..", "ANN", "\u0430nn", "")
    ]
    await check_refused(shared, table)
