"""What a person can do on the page: each one a small JSON body and a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StringConstraints

from hive_agent.interfaces import ActionNotPossible, Controls
from hive_agent.web.hive import Hive
from hive_agent.web.refusal import PageError
from hive_agent.web.sessions import Sessions, ask_hive
from hive_core.protocol import Answer, Done, Effort, PageSession, Request, SendAnswer


class Nothing(Request):
    """There is nothing to say."""


class Typed(Request):
    """A message to the agent; the same `key` sends it once."""

    body: Annotated[str, StringConstraints(min_length=1)]
    reply_to: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    key: Annotated[str, StringConstraints(min_length=8, max_length=64)]


class Answered(Request):
    """The answer to one of the agent's questions."""

    question: Annotated[int, Field(ge=1, le=2**63 - 1)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


class OneTurn(Request):
    """Which turn is meant."""

    turn: Annotated[int, Field(ge=0, le=2**53)]


class Chosen(Request):
    """None goes back to what `agent.toml` says."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None
    effort: Effort | None


class Code(Request):
    """What the login's page showed."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True)]


class LoginAddress(Answer):
    """The address that a person has to open."""

    url: str


@dataclass(frozen=True)
class Actions:
    """Carries out what a person asks for. All raise PageError; `not_now` if it does not fit what is going on."""

    controls: Controls
    hive: Hive
    sessions: Sessions

    async def send(self, typed: Typed, session: PageSession) -> SendAnswer:
        call = self.hive.page_send(session.session, typed.body, key=typed.key, reply_to=typed.reply_to)
        try:
            return await ask_hive(call)
        except PageError as error:
            raise self._refused(error, session) from None

    async def answer(self, answered: Answered, session: PageSession) -> Done:
        try:
            await ask_hive(self.hive.page_answer(session.session, answered.question, answered.text))
        except PageError as error:
            raise self._refused(error, session) from None
        return Done()

    async def cancel(self, _nothing: Nothing, _session: PageSession) -> Done:
        await self.controls.cancel()
        return Done()

    async def retry(self, chosen: OneTurn, _session: PageSession) -> Done:
        await self.controls.retry(chosen.turn)
        return Done()

    async def skip(self, chosen: OneTurn, _session: PageSession) -> Done:
        await self.controls.skip(chosen.turn)
        return Done()

    async def compact(self, _nothing: Nothing, _session: PageSession) -> Done:
        await self.controls.compact()
        return Done()

    async def new_session(self, _nothing: Nothing, _session: PageSession) -> Done:
        await self.controls.new_session()
        return Done()

    async def choose(self, chosen: Chosen, _session: PageSession) -> Done:
        await self.controls.choose(chosen.model, chosen.effort)
        return Done()

    async def log_in(self, _nothing: Nothing, _session: PageSession) -> LoginAddress:
        return LoginAddress(url=await self.controls.log_in())

    async def give_code(self, code: Code, _session: PageSession) -> Done:
        await self.controls.give_code(code.code)
        return Done()

    def _refused(self, error: PageError, session: PageSession) -> PageError:
        """As the hive said it; a session that ended meanwhile as any other that is not good."""
        self.sessions.forget(session.session)
        if error.body.code == "bad_session":
            return self.sessions.none()
        return error


def not_now(error: ActionNotPossible) -> PageError:
    """The harness cannot do that at the moment."""
    return PageError("not_now", str(error), status=409)
