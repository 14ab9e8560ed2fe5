"""Accounts, sessions and tokens under any sequence of changes, beside a plain model of who is signed in."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hive_core.errors import HiveError
from hive_core.people import ROLES, Role, SignedIn
from tests.helpers.memory import MEMORY
from tests.unit.core.people.people_hive import DAY, HOST, HOUR, MINUTE, PeopleHive, people_hive

T = TypeVar("T")
NAMES = ("ada", "bob")
PASSWORDS = ("password one", "password two")
IDLE, TOTAL, LINK = 12 * HOUR, 7 * DAY, 15 * MINUTE


@dataclass
class Held:
    """A session or token that somebody holds, as the model has it."""

    name: str
    secret: str
    number: int
    ends: int
    used: int
    token_role: Role | None = None
    over: bool = False

    def is_good(self, now: int) -> bool:
        idle = self.token_role is None and now >= self.used + IDLE
        return not (self.over or now >= self.ends or idle)


@dataclass
class Person:
    """An account, as the model has it."""

    role: Role
    password: str | None = None


class PeopleMachine(RuleBasedStateMachine):
    """Every request is answered as the model says: by accounts that change, time that passes, and restarts."""

    @initialize(role=st.sampled_from(ROLES))
    def open(self, role: Role) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        directory = self.stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))
        self.hive: PeopleHive = self.run(self.stack.enter_async_context(people_hive(Path(directory))))
        self.people: dict[str, Person] = {}
        self.held: list[Held] = []
        self.good_link: dict[str, tuple[str, int]] = {}
        """The newest link for a person, and its end."""
        self.old_links: list[str] = []
        for name in NAMES:
            self.add(name, role)
            self.use_link(name, PASSWORDS[0])
            self.sign_in(name, 0, right=True)

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.run(self.stack.aclose())
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def refused(self, work: Coroutine[Any, Any, object]) -> str:
        """Return the code with which something is refused; "" if it is done."""
        try:
            self.run(work)
        except HiveError as error:
            return error.code
        return ""

    def end_all(self, name: str, *, tokens: bool) -> None:
        for each in self.held:
            if each.name == name and (tokens or each.token_role is None):
                each.over = True

    # --- accounts and links ---------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(ROLES))
    def add(self, name: str, role: Role) -> None:
        if name in self.people:
            assert self.refused(self.hive.people.administration.add(name, role, HOST)) == "name_taken"
            return
        made = self.run(self.hive.people.administration.add(name, role, HOST))
        self.people[name] = Person(role)
        self.put_link(name, made.secret)

    @rule(name=st.sampled_from(NAMES))
    def reset(self, name: str) -> None:
        if name not in self.people:
            assert self.refused(self.hive.people.administration.link_for(name, HOST)) == "unknown_person"
            return
        made = self.run(self.hive.people.administration.link_for(name, HOST))
        self.put_link(name, made.secret)

    def put_link(self, name: str, secret: str) -> None:
        self.old_links += [self.good_link[name][0]] if name in self.good_link else []
        self.good_link[name] = (secret, self.hive.now + LINK)

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(ROLES))
    def set_role(self, name: str, role: Role) -> None:
        refused = self.refused(self.hive.people.administration.set_role(name, role, HOST))
        assert refused == ("" if name in self.people else "unknown_person")
        if name in self.people:
            self.people[name].role = role

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        refused = self.refused(self.hive.people.administration.remove(name, HOST))
        assert refused == ("" if name in self.people else "unknown_person")
        self.people.pop(name, None)
        self.drop_link(name)
        self.end_all(name, tokens=True)

    def drop_link(self, name: str) -> None:
        secret, _ = self.good_link.pop(name, ("", 0))
        self.old_links += [secret] if secret else []

    @precondition(lambda self: self.old_links)
    @rule(data=st.data())
    def use_old_link(self, data: st.DataObject) -> None:
        secret = data.draw(st.sampled_from(self.old_links))
        assert self.refused(self.hive.people.signing_in.set_up(secret, None, PASSWORDS[0], "")) == "bad_link"

    @rule(name=st.sampled_from(NAMES), password=st.sampled_from(PASSWORDS))
    def use_link(self, name: str, password: str) -> None:
        if name not in self.good_link:
            self.reset(name)
        if name not in self.people:
            return
        secret, end = self.good_link[name]
        work = self.hive.people.signing_in.set_up(secret, None, password, "")
        if self.hive.now >= end:
            assert self.refused(work) == "bad_link"
            return
        begun = self.run(work)
        self.drop_link(name)
        self.people[name].password = password
        self.end_all(name, tokens=False)
        self.hold(name, begun.secret, begun.credential.id, TOTAL)

    # --- sessions and tokens --------------------------------------------------------------------------------

    def hold(self, name: str, secret: str, number: int, length: int, token_role: Role | None = None) -> None:
        now = self.hive.now
        self.held.append(Held(name, secret, number, now + length, now, token_role))

    @rule(name=st.sampled_from(NAMES), replaced=st.integers(0, 20), right=st.booleans())
    def sign_in(self, name: str, replaced: int, right: bool) -> None:
        self.hive.now += HOUR // 4  # The wait after wrong passwords is over.
        stored = self.people[name].password if name in self.people else None
        password = stored if right and stored else "a wrong one"
        old = self.held[replaced] if replaced < len(self.held) else None
        work = self.hive.sign_in(name, password, "192.0.2.1", old.secret if old else "")
        person = self.people.get(name)
        if person is None or person.password != password:
            assert self.refused(work) == "wrong_password"
            return
        rotated = old is not None and old.name == name and old.token_role is None
        begun = self.run(work)
        if old is not None and old.is_good(self.hive.now):
            old.used, old.over = self.hive.now, rotated
        self.hold(name, begun.secret, begun.credential.id, TOTAL)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), new=st.sampled_from(PASSWORDS))
    def change_password(self, data: st.DataObject, new: str) -> None:
        self.hive.now += HOUR // 4
        held = data.draw(st.sampled_from(self.held))
        person = self.people.get(held.name)
        if held.token_role is not None or not held.is_good(self.hive.now) or person is None:
            return
        found = self.run(self.hive.people.identify(held.secret))
        assert person.password is not None
        begun = self.run(self.hive.people.signing_in.change_password(found, person.password, new, "192.0.2.1"))
        person.password = new
        self.end_all(held.name, tokens=False)
        self.hold(held.name, begun.secret, begun.credential.id, TOTAL)

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(ROLES), days=st.integers(1, 365))
    def make_token(self, name: str, role: Role, days: int) -> None:
        label = f"t{len(self.held)}"
        work = self.hive.people.credentials.make_token(
            name, label, role=role, agents=None, days=float(days), actor=HOST
        )
        person = self.people.get(name)
        if person is None or ROLES.index(role) > ROLES.index(person.role):
            assert self.refused(work) == ("unknown_person" if person is None else "role_too_high")
            return
        secret, made = self.run(work)
        self.hold(name, secret, made.id, days * DAY, role)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        kind = "session" if held.token_role is None else "token"
        refused = self.refused(self.hive.people.credentials.revoke(held.number, kind, held.name, HOST))  # type: ignore[arg-type]
        assert refused == ("" if held.is_good(self.hive.now) else f"unknown_{kind}")
        held.over = True

    @rule(name=st.none() | st.sampled_from(NAMES), tokens=st.booleans())
    def revoke_all(self, name: str | None, tokens: bool) -> None:
        work = self.hive.people.credentials.revoke_all(name, HOST, tokens=tokens, keep=None)
        refused = self.refused(work)
        assert refused == ("" if name is None or name in self.people else "unknown_person")
        for one in self.people if name is None else [name]:
            self.end_all(one, tokens=tokens)
            if tokens:
                self.drop_link(one)

    # --- time -----------------------------------------------------------------------------------------------

    @rule(passed=st.sampled_from([1, 14 * MINUTE, LINK, 11 * HOUR, IDLE, 6 * DAY, TOTAL, 100 * DAY]))
    def wait(self, passed: int) -> None:
        self.hive.now += passed

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        if held.is_good(self.hive.now):
            held.used = self.hive.now
        assert self.run(self.hive.is_signed_in(held.secret)) is held.is_good(self.hive.now)

    @rule()
    def restart(self) -> None:
        self.run(self.hive.restart())

    # --------------------------------------------------------------------------------------------------------

    @invariant()
    def those_are_signed_in_who_should_be(self) -> None:
        """The lists show just what is good, with its rights, and everything that has ended was told of."""
        if not hasattr(self, "hive"):
            return
        people, now = self.hive.people, self.hive.now
        listed = {
            each.id: people.as_signed_in(each)
            for kind in ("session", "token")
            for each in people.credentials.select(kind, None)
        }
        expected = {}
        for held in self.held:
            if not held.is_good(now):
                continue
            role = self.people[held.name].role
            if held.token_role is not None:
                role = min(role, held.token_role, key=ROLES.index)
            by = "session" if held.token_role is None else "token"
            expected[held.number] = SignedIn(held.name, role, by, held.number)  # type: ignore[arg-type]
        assert listed == expected
        assert {held.number for held in self.held if held.over} <= set(self.hive.ended) | {
            held.number for held in self.held if now >= held.ends or now >= held.used + IDLE
        }


def test_just_those_are_signed_in_who_should_be() -> None:
    """Whatever happens in whatever order, just those are signed in who should be, with their rights."""
    examples = max(10, settings().max_examples // 2)
    run_state_machine_as_test(PeopleMachine, settings=settings(max_examples=examples, stateful_step_count=30))
