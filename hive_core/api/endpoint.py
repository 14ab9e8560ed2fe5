"""One endpoint: its path, its callers, and the models of its request and answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from aiohttp import web
from pydantic import BaseModel

from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.people.signed_in import SignedIn
from hive_core.protocol import Answer, Query, Request

M = TypeVar("M", bound=BaseModel)


class Caller(NamedTuple):
    """The caller of a request, as its socket identifies it, and on `dashboard.sock` the credential.

    `name` is an agent's, `operator`, or a person's; a visitor is nobody yet. `sees` are the agents of which the caller
    may know.
    """

    name: str
    kind: Literal["agent", "manager", "operator", "person", "visitor"]
    ask_actor: Callable[[], str]
    person: SignedIn | None = None
    sees: Sight = EVERYTHING

    @property
    def actor(self) -> str:
        """The caller's name in the audit table. Looked up only when needed: most requests are not audited."""
        return self.ask_actor()


class ApiCall(NamedTuple):
    """One request that has passed its endpoint's models."""

    caller: Caller
    path: Mapping[str, str]
    query: Query
    body: Request | None
    raw: web.BaseRequest

    def read(self, model: type[M]) -> M:
        """Return the body or query as `model`, which the endpoint must have declared."""
        for part in (self.body, self.query):
            if isinstance(part, model):
                return part
        raise TypeError(f"the endpoint does not declare {model.__name__}")


Load = Literal["light", "heavy", "follows"]
"""The cost of an endpoint: `heavy` work can take the daemon seconds, `follows` holds a process or a file for a caller
that waits. `hive_core.api.dispatch` has the limits."""
Handler = Callable[[ApiCall], Awaitable[Answer | web.StreamResponse]]
Identify = Callable[[web.BaseRequest], Caller]
Check = Callable[[web.BaseRequest], None]
"""Raises HiveError for requests that the socket does not take."""
Refused = Callable[[Caller, str, HiveError], Awaitable[None]]
Timed = Callable[[str, int, float], None]


MOST_BYTES = 256 * 1024
"""Room for a text of 10,000 characters, in JSON that writes each character as escapes."""
MOST_VALUES = 100
"""Values of a body: each may be a fault, and validation finds them all."""
MOST_VALUES_WITH_IDS = 1_100
MOST_VALUES_OF_SPAWN = 25_000


@dataclass(frozen=True)
class Endpoint:
    """`answer` is a model, or the media type of an answer that is not JSON.

    `waits` marks a long poll: it is cancelled when the caller hangs up, while other requests are carried out to
    their end. `load` limits how many requests of a caller, and of all callers, are carried out at a time. `until` is
    awaited before `handler`, and counts for no limit: the wait of a long poll whose answer is `heavy`. `manager_only`
    endpoints are refused on every other agent's socket. `most_bytes` and `most_values` are the limits of the body. With
    `streams`, the handler itself reads the body, which may be long (`hive_core.api.bodies.BodyStream`). `rule` says
    which people may use it; without one, it is not for people.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    handler: Handler
    answer: type[Answer] | str
    body: type[Request] | None = None
    query: type[Query] | None = None
    waits: bool = False
    load: Load = "light"
    until: Callable[[ApiCall], Awaitable[None]] | None = None
    manager_only: bool = False
    most_bytes: int = MOST_BYTES
    most_values: int = MOST_VALUES
    streams: bool = False
    rule: EndpointRule | None = None
