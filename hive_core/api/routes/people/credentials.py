"""Endpoints of sessions and API tokens."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import number_of
from hive_core.api.routes.people.callers import actor_of, check_session, find_person, whose
from hive_core.api.rules import EndpointRule
from hive_core.errors import bad_request, forbidden
from hive_core.infra.database.database import to_datetime
from hive_core.people import People
from hive_core.people.store import Credential, CredentialKind
from hive_core.protocol import Done
from hive_core.protocol.people.sign_in import (
    ApiToken,
    MakeTokenRequest,
    NewToken,
    PersonQuery,
    RevokeAllRequest,
    Revoked,
    RevokeRequest,
    SessionList,
    SignedInSession,
    TokenList,
)

_MOST_VALUES_OF_TOKEN = 120
"""A token may be for a hundred agents."""
_OWN = EndpointRule("viewer", "own")
"""Of others only for admins, which the endpoints check."""


def session_endpoints(people: People) -> list[Endpoint]:
    """Return the endpoints to list and end sessions: one's own, and for admins everybody's."""

    async def listing(call: ApiCall) -> SessionList:
        person = await find_person(people, call)
        found = people.credentials.select("session", whose(person, call.read(PersonQuery).person))
        found.sort(key=lambda each: each.used_at, reverse=True)
        current = None if person is None else person.credential
        return SessionList(sessions=[_session(each, current) for each in found])

    async def revoke_all(call: ApiCall) -> Revoked:
        person, request = await find_person(people, call), call.read(RevokeAllRequest)
        check_session(person)
        whom = whose(person, request.person)
        keep = person.credential if person is not None and request.keep_current else None
        actor = actor_of(call, person)
        ended = await people.credentials.revoke_all(whom, actor, tokens=request.tokens, keep=keep)
        return Revoked(sessions=ended.sessions, tokens=ended.tokens, links=ended.links)

    return [
        Endpoint("GET", "/v1/sessions", "The sessions of people", listing, SessionList, query=PersonQuery, rule=_OWN),
        Endpoint(
            "POST", "/v1/sessions/revoke-all", "End all sessions", revoke_all, Revoked, body=RevokeAllRequest, rule=_OWN
        ),
        _revocation(people, "session", "End a session"),
    ]


def token_endpoints(people: People) -> list[Endpoint]:
    """Return the endpoints to make, list and end API tokens: one's own, and for admins everybody's."""

    async def listing(call: ApiCall) -> TokenList:
        person = await find_person(people, call)
        found = people.credentials.select("token", whose(person, call.read(PersonQuery).person))
        found.sort(key=lambda each: each.id, reverse=True)
        return TokenList(tokens=[_token(people, each) for each in found])

    async def make(call: ApiCall) -> NewToken:
        person, request = await find_person(people, call), call.read(MakeTokenRequest)
        check_session(person)
        owner = request.person if person is None else person.name
        if owner is None:
            raise bad_request("it is not said whose token it is", "name the person")
        if request.person not in (None, owner):
            raise forbidden("not_permitted", "a token is made by its owner", "sign in as that person")
        secret, made = await people.credentials.make_token(
            owner,
            request.name,
            role=request.role,
            agents=request.agents,
            days=request.days,
            actor=actor_of(call, person),
        )
        return NewToken(**_token(people, made).model_dump(), token=secret)

    return [
        Endpoint("GET", "/v1/tokens", "The API tokens of people", listing, TokenList, query=PersonQuery, rule=_OWN),
        Endpoint(
            "POST",
            "/v1/tokens",
            "Make an API token",
            make,
            NewToken,
            body=MakeTokenRequest,
            most_values=_MOST_VALUES_OF_TOKEN,
            rule=_OWN,
        ),
        _revocation(people, "token", "End an API token"),
    ]


def _revocation(people: People, kind: CredentialKind, summary: str) -> Endpoint:
    async def revoke(call: ApiCall) -> Done:
        person, number = await find_person(people, call), number_of(call)
        check_session(person)
        owner = None if person is None or person.role == "admin" else person.name
        await people.credentials.revoke(number, kind, owner, actor_of(call, person))
        return Done()

    return Endpoint("POST", f"/v1/{kind}s/{{id}}/revoke", summary, revoke, Done, body=RevokeRequest, rule=_OWN)


def _session(found: Credential, current: int | None) -> SignedInSession:
    return SignedInSession(
        id=found.id,
        person=found.person,
        address=found.address,
        began_at=to_datetime(found.made_at),
        used_at=to_datetime(found.used_at),
        ends_at=to_datetime(found.ends_at),
        current=found.id == current,
    )


def _token(people: People, found: Credential) -> ApiToken:
    return ApiToken(
        id=found.id,
        person=found.person,
        name=found.label,
        role=people.as_signed_in(found).role,
        agents=None if found.agents is None else sorted(found.agents),
        made_at=to_datetime(found.made_at),
        used_at=to_datetime(found.used_at) if found.used_at else None,
        ends_at=to_datetime(found.ends_at),
    )
