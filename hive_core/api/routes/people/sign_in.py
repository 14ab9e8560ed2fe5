"""Endpoints to sign in and out, and of one's own account."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.people.callers import (
    client_address,
    find_person,
    given_secret,
    person_in_session,
    waits_as_refusals,
)
from hive_core.api.rules import PUBLIC, EndpointRule
from hive_core.infra.database.database import to_datetime
from hive_core.people import People
from hive_core.people.sign_in import BegunSession
from hive_core.protocol import Done
from hive_core.protocol.names import OPERATOR
from hive_core.protocol.people.sign_in import (
    Me,
    NewSession,
    PasswordRequest,
    SetUpRequest,
    SignInRequest,
    SignOutRequest,
)


def sign_in_endpoints(people: People) -> list[Endpoint]:
    """Return the endpoints that a visitor may use."""
    signing_in = people.signing_in

    async def sign_in(call: ApiCall) -> NewSession:
        request, address, replaced = call.read(SignInRequest), client_address(call), given_secret(call)
        with waits_as_refusals():
            password = request.password.get_secret_value()
            return _answer(await signing_in.sign_in(request.name, password, address, replaced))

    async def set_up(call: ApiCall) -> NewSession:
        request = call.read(SetUpRequest)
        token, password = request.token.get_secret_value(), request.password.get_secret_value()
        with waits_as_refusals():
            return _answer(await signing_in.set_up(token, request.name, password, client_address(call)))

    return [
        Endpoint(
            "POST", "/v1/sign-in", "Sign in with a password", sign_in, NewSession, body=SignInRequest, rule=PUBLIC
        ),
        Endpoint(
            "POST", "/v1/set-up", "Use a set-up link, and sign in", set_up, NewSession, body=SetUpRequest, rule=PUBLIC
        ),
    ]


def own_account(people: People) -> list[Endpoint]:
    """Return the endpoints of the person who is signed in."""

    async def me(call: ApiCall) -> Me:
        person = await find_person(people, call)
        if person is None:
            return Me(name=OPERATOR, role="admin", by="host")
        credential = people.find_credential(person.credential)
        ends_at = None if credential is None else to_datetime(credential.ends_at)
        agents = None if person.agents is None else sorted(person.agents)
        return Me(
            name=person.name,
            role=person.role,
            by=person.by,
            credential=person.credential,
            agents=agents,
            ends_at=ends_at,
        )

    async def sign_out(call: ApiCall) -> Done:
        person = await person_in_session(people, call)
        await people.credentials.sign_out(person.credential, person.name)
        return Done()

    async def password(call: ApiCall) -> NewSession:
        person, request = await person_in_session(people, call), call.read(PasswordRequest)
        old, new = request.old.get_secret_value(), request.new.get_secret_value()
        with waits_as_refusals():
            return _answer(await people.signing_in.change_password(person, old, new, client_address(call)))

    own = EndpointRule("viewer", "own")
    return [
        Endpoint("GET", "/v1/me", "The person whom the request comes from", me, Me, rule=own),
        Endpoint(
            "POST", "/v1/me/password", "Choose another password", password, NewSession, body=PasswordRequest, rule=own
        ),
        Endpoint(
            "POST", "/v1/sign-out", "End the session of the request", sign_out, Done, body=SignOutRequest, rule=own
        ),
    ]


def _answer(begun: BegunSession) -> NewSession:
    return NewSession(
        session=begun.secret,
        id=begun.credential.id,
        name=begun.account.name,
        role=begun.account.role,
        ends_at=to_datetime(begun.credential.ends_at),
    )
