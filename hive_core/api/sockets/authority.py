"""The rights of people on `dashboard.sock`: by their credential, the rule of the endpoint, and who owns what.

The dashboard has no rights of its own: it passes on the credential of a person with each request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web

from hive_core.api.endpoint import ApiCall, Caller, Endpoint
from hive_core.api.rules import EndpointRule, Subject
from hive_core.errors import HiveError, forbidden
from hive_core.people.ownership.sight import Sight
from hive_core.people.signed_in import SignedIn

IdentifyPerson = Callable[[str], Awaitable[SignedIn]]
"""Returns the person to whom a session or an API token belongs. Raises `not_signed_in`."""
Looked = Callable[[Caller, str], Awaitable[None]]
"""Called before an admin sees or changes what belongs to an agent of somebody else's."""

_WITHOUT_AGENT: frozenset[Subject] = frozenset({"hive", "own", "listing"})
_SCHEME = "bearer "
_LONGEST_CREDENTIAL = 200
VISITOR = Caller("visitor", "visitor", lambda: "visitor", sees=Sight(all_agents=False, only=frozenset()))
"""Somebody who is not signed in."""


class SubjectLookup(NamedTuple):
    """A way to find the agent that a request is about.

    `find` returns its name, or None if the request is about none; it may raise what the endpoint would raise for a
    subject that is not there. `unknown` returns the endpoint's error for an unknown subject.
    """

    find: Callable[[ApiCall], Awaitable[str | None]]
    unknown: Callable[[ApiCall], HiveError]


class PeopleAuthority:
    """Identifies people, and checks their roles and what they may know."""

    def __init__(
        self,
        identify: IdentifyPerson,
        owners: Mapping[str, str],
        lookups: Mapping[Subject, SubjectLookup],
        looked: Looked,
    ) -> None:
        """`owners` are those of agents, as they are at any time."""
        self._identify = identify
        self._owners = owners
        self._lookups = lookups
        self._looked = looked
        self._attending: defaultdict[int, set[asyncio.Task[object]]] = defaultdict(set)
        """Requests that wait, by the numbers of the credentials in whose name they do."""

    def check_complete(self, endpoints: Sequence[Endpoint]) -> None:
        """Raise ValueError for the first endpoint without a rule, or with a subject that cannot be looked up."""
        for endpoint in endpoints:
            rule = endpoint.rule
            if rule is None:
                raise ValueError(f"{endpoint.method} {endpoint.path} has no rule, so no person may use it")
            if rule.subject not in self._lookups and rule.subject not in _WITHOUT_AGENT:
                raise ValueError(f"{endpoint.method} {endpoint.path}: the subject {rule.subject} cannot be looked up")

    async def identify(self, endpoint: Endpoint, request: web.BaseRequest) -> Caller:
        """Return the person by the request's credential; a visitor where nobody has to be signed in."""
        if _rule(endpoint).public:
            return VISITOR
        person = await self._identify(_credential(request))
        actor = f"person:{person.name}"
        sees = Sight(self._owners, person.name, person.role == "admin", person.agents)
        return Caller(person.name, "person", lambda: actor, person, sees)

    def permit(self, endpoint: Endpoint, caller: Caller) -> None:
        """Raise `not_permitted` unless the person's role is enough."""
        rule, person = _rule(endpoint), caller.person
        if rule.public or person is None:
            return
        if not rule.allows(person.role):
            why = f"{person.name} signed in as {person.role}, and this needs the role {rule.role}"
            raise forbidden("not_permitted", why, f"ask for it: hive-c0re operator role {person.name} {rule.role}")
        if rule.subject == "hive" and caller.sees.only is not None:
            why = "this token is for some agents only, and this concerns the whole hive"
            raise forbidden("not_permitted", why, "use a token without a list of agents")

    async def check(self, endpoint: Endpoint, call: ApiCall) -> None:
        """Raise the endpoint's error for what does not exist if the caller may not know of the subject."""
        lookup = self._lookups.get(_rule(endpoint).subject)
        if lookup is None:
            return
        agent = await lookup.find(call)
        if agent is None:
            return
        if not call.caller.sees(agent):
            raise lookup.unknown(call)
        owner = self._owners.get(agent)
        if owner and owner != call.caller.name:
            await self._looked(call.caller, agent)

    @asynccontextmanager
    async def attending(self, endpoint: Endpoint, call: ApiCall) -> AsyncIterator[None]:
        """Hold a request that waits, which ends when its credential does."""
        person, task = call.caller.person, asyncio.current_task()
        if person is None or task is None:
            yield
            return
        attended = self._attending[person.credential]
        attended.add(task)
        try:
            # Once more, as the credential may have ended after it was checked first.
            await self._identify(_credential(call.raw))
            await self.check(endpoint, call)
            yield
        finally:
            attended.discard(task)
            if not attended and self._attending.get(person.credential) is attended:
                del self._attending[person.credential]

    def end(self, credential: int) -> None:
        """End the requests that wait in the name of a credential, which has ended or has other rights now."""
        for task in list(self._attending.get(credential, ())):
            task.cancel()

    def end_all(self) -> None:
        """End all requests that wait, as agents have other owners now; who may see them asks again."""
        for tasks in list(self._attending.values()):
            for task in list(tasks):
                task.cancel()


def _not_signed_in(why: str) -> HiveError:
    """Return the error for a request without a valid credential."""
    return HiveError("not_signed_in", why, hint="sign in again, or use another token", status=401)


def _rule(endpoint: Endpoint) -> EndpointRule:
    if endpoint.rule is None:
        raise TypeError(f"{endpoint.path} has no rule")
    return endpoint.rule


def _credential(request: web.BaseRequest) -> str:
    headers = request.headers.getall("Authorization", [])
    if not headers:
        raise _not_signed_in("the request names no session and no token")
    credential = headers[0][len(_SCHEME) :].strip()
    if len(headers) > 1 or headers[0][: len(_SCHEME)].lower() != _SCHEME or not credential.isascii():
        raise _not_signed_in('the header Authorization is not one "Bearer" with a session or token')
    if not credential or len(credential) > _LONGEST_CREDENTIAL:
        raise _not_signed_in("there is no such session or token")
    return credential
