"""The person behind a request, the address of the browser, and refusals that say when to try again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hive_core.api.dispatch import TooManyRequests
from hive_core.api.endpoint import ApiCall
from hive_core.errors import HiveError, forbidden
from hive_core.people import People, SignedIn
from hive_core.people.attempts import TooSoon, clean_address
from hive_core.people.passwords import TooManyPasswords
from hive_core.people.records import not_signed_in

_BEARER = "bearer "
_BUSY_SECONDS = 5


def given_secret(call: ApiCall) -> str:
    """Return the secret that the request comes with; "" if there is none."""
    header = call.raw.headers.get("Authorization", "")
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""


async def find_person(people: People, call: ApiCall) -> SignedIn | None:
    """Return the person behind the request; None for the operator on the host. Raises `not_signed_in`.

    On `host.sock`, too, a request may come with the session of a person, and is that person's then.
    """
    if call.caller.person is not None:
        return call.caller.person
    secret = given_secret(call)
    if secret:
        return await people.identify(secret)
    if call.caller.kind == "operator":
        return None
    raise not_signed_in()


async def person_in_session(people: People, call: ApiCall) -> SignedIn:
    """Return the person who is signed in with a session. Raises `not_signed_in`, `session_needed`."""
    found = await find_person(people, call)
    if found is None:
        raise not_signed_in()
    check_session(found)
    return found


def check_session(person: SignedIn | None) -> None:
    """Raise `session_needed` for a person who comes with an API token, which a program may have lost."""
    if person is not None and person.by != "session":
        raise forbidden("session_needed", "an API token may not do this", "sign in with a password")


def whose(person: SignedIn | None, wanted: str | None) -> str | None:
    """Return the account that is asked about, None for all: one's own unless an admin says otherwise.

    Raises `not_permitted`.
    """
    if person is None:
        return None if wanted in (None, "*") else wanted
    if wanted in (None, "me", person.name):
        return person.name
    if person.role != "admin" or person.agents is not None:
        raise HiveError("not_permitted", "only an admin may ask about other accounts", hint="ask one", status=403)
    return None if wanted == "*" else wanted


def actor_of(call: ApiCall, person: SignedIn | None) -> str:
    """Return the name for the audit table."""
    return call.caller.actor if person is None else f"person:{person.name}"


def client_address(call: ApiCall) -> str:
    """Return the address of the browser, as the dashboard claims it; "" if it claims none."""
    return clean_address(call.raw.headers.get("Hive-Client-Address", "").strip()[:64])


@contextmanager
def waits_as_refusals() -> Iterator[None]:
    """Raise TooManyRequests in place of what says that an attempt to sign in comes too soon."""
    hint = "an operator on the host can give you a link to sign in: hive-c0re operator passwd NAME"
    try:
        yield
    except TooSoon as refusal:
        why = f"too many wrong passwords: the next attempt can be made in {refusal.seconds} s"
        raise TooManyRequests("too_many_sign_ins", why, hint, refusal.seconds) from None
    except TooManyPasswords:
        why = "too many others sign in at this moment"
        raise TooManyRequests("too_many_sign_ins", why, "try again in a moment", _BUSY_SECONDS) from None
