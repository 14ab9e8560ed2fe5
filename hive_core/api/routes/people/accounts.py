"""Endpoints to list and manage accounts. All but the list are for the operator on the host only."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.people.callers import find_person
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError, not_found
from hive_core.infra.database.database import to_datetime
from hive_core.people import People
from hive_core.people.administration import MadeLink, Summary
from hive_core.protocol import Done
from hive_core.protocol.names import is_person_name, why_no_person_name
from hive_core.protocol.people.accounts import (
    AddPersonRequest,
    PersonAccount,
    PersonList,
    RemovePersonRequest,
    ResetLinkRequest,
    RoleRequest,
    SetUpLink,
    SetUpLinkRequest,
)

_PEOPLE = "/v1/people"


def account_views(people: People) -> list[Endpoint]:
    """Return the endpoint to list accounts, for admins."""

    async def listing(call: ApiCall) -> PersonList:
        person = await find_person(people, call)
        if person is not None and (person.role != "admin" or person.agents is not None):
            raise HiveError("not_permitted", "only an admin may list the accounts", hint="ask one", status=403)
        return PersonList(people=[_person(each) for each in await people.administration.summaries()])

    return [Endpoint("GET", _PEOPLE, "The accounts of people", listing, PersonList, rule=EndpointRule("admin"))]


def account_changes(people: People, origin: str) -> list[Endpoint]:
    """Return the endpoints to manage accounts. `origin` is that of the dashboard, for links."""
    administration = people.administration

    def link(made: MadeLink) -> SetUpLink:
        # In the fragment, which browsers send to no server, so that no log of a proxy has it.
        url = f"{origin}/setup#{made.secret}"
        return SetUpLink(name=made.person, role=made.role, url=url, ends_at=to_datetime(made.ends_at))

    async def set_up(call: ApiCall) -> SetUpLink:
        return link(await administration.link_for_admin(call.read(SetUpLinkRequest).name, call.caller.actor))

    async def add(call: ApiCall) -> SetUpLink:
        request = call.read(AddPersonRequest)
        return link(await administration.add(request.name, request.role, call.caller.actor))

    async def reset(call: ApiCall) -> SetUpLink:
        return link(await administration.link_for(_name(call), call.caller.actor))

    async def set_role(call: ApiCall) -> Done:
        await administration.set_role(_name(call), call.read(RoleRequest).role, call.caller.actor)
        return Done()

    async def remove(call: ApiCall) -> Done:
        await administration.remove(_name(call), call.caller.actor)
        return Done()

    one = f"{_PEOPLE}/{{name}}"
    return [
        Endpoint("POST", "/v1/set-up-links", "Make a set-up link for an admin", set_up, SetUpLink, SetUpLinkRequest),
        Endpoint("POST", _PEOPLE, "Make an account and its set-up link", add, SetUpLink, AddPersonRequest),
        Endpoint("POST", f"{one}/link", "Make a link for another password", reset, SetUpLink, ResetLinkRequest),
        Endpoint("POST", f"{one}/role", "Give a person another role", set_role, Done, RoleRequest),
        Endpoint("POST", f"{one}/remove", "Remove an account", remove, Done, RemovePersonRequest),
    ]


def _name(call: ApiCall) -> str:
    name = call.path["name"]
    if not is_person_name(name):
        raise not_found("unknown_person", why_no_person_name(name), '"hive-c0re operator list" shows the accounts')
    return name


def _person(found: Summary) -> PersonAccount:
    account = found.account
    return PersonAccount(
        name=account.name,
        role=account.role,
        ready=account.password is not None,
        linked=found.linked,
        made_at=to_datetime(account.made_at),
        signed_in_at=None if account.signed_in_at is None else to_datetime(account.signed_in_at),
        sessions=found.sessions,
        tokens=found.tokens,
    )
