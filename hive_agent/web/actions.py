"""What a person can do on the page: each one a small JSON body and a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field, StringConstraints, ValidationError

from hive_agent.interfaces import ActionNotPossible, Controls
from hive_agent.web.hive import Hive
from hive_agent.web.reading import wrong_form
from hive_agent.web.refusal import PageError
from hive_agent.web.sessions import Sessions, ask_hive
from hive_core.protocol import (
    Answer,
    Done,
    LoginAddress,
    LoginCodeRequest,
    ModelRequest,
    PageSession,
    Request,
    SendAnswer,
    TurnRequest,
)


class Typed(Request):
    """A message to the agent; the same `key` sends it once."""

    body: Annotated[str, StringConstraints(min_length=1)]
    reply_to: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    key: Annotated[str, StringConstraints(min_length=8, max_length=64)]


class Answered(Request):
    """The answer to one of the agent's questions."""

    question: Annotated[int, Field(ge=1, le=2**63 - 1)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


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

    async def cancel(self, _nothing: Request, _session: PageSession | None = None) -> Done:
        await self.controls.cancel()
        return Done()

    async def retry(self, chosen: TurnRequest, _session: PageSession | None = None) -> Done:
        await self.controls.retry(chosen.turn)
        return Done()

    async def skip(self, chosen: TurnRequest, _session: PageSession | None = None) -> Done:
        await self.controls.skip(chosen.turn)
        return Done()

    async def pause(self, _nothing: Request, _session: PageSession | None = None) -> Done:
        await self.controls.pause()
        return Done()

    async def resume(self, _nothing: Request, _session: PageSession | None = None) -> Done:
        await self.controls.resume()
        return Done()

    async def go_on(self, _nothing: Request) -> Done:
        await self.controls.go_on()
        return Done()

    async def compact(self, _nothing: Request, _session: PageSession | None = None) -> Done:
        await self.controls.compact()
        return Done()

    async def new_session(self, _nothing: Request, _session: PageSession | None = None) -> Done:
        await self.controls.new_session()
        return Done()

    async def choose(self, chosen: ModelRequest, _session: PageSession | None = None) -> Done:
        await self.controls.choose(chosen.model, chosen.effort)
        return Done()

    async def log_in(self, _nothing: Request, _session: PageSession | None = None) -> LoginAddress:
        return LoginAddress(url=await self.controls.log_in())

    async def give_code(self, code: LoginCodeRequest, _session: PageSession | None = None) -> Done:
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


async def read_body(request: web.Request, model: type[Request], most: int) -> Any:
    """Return the JSON body as `model`. What is longer than `most` bytes is not read. Raises PageError."""
    if request.content_type != "application/json":
        raise PageError("not_json", "the body has to be JSON", "send Content-Type: application/json", status=415)
    if (request.content_length or 0) > most:
        raise too_large(most)
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > most:
            raise too_large(most)
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as error:
        raise wrong_form(error) from None


def too_large(most: int) -> PageError:
    """Return the refusal of a body of more than `most` bytes."""
    return PageError("too_large", f"the request is larger than {most:,} bytes", "send less at a time", status=413)


async def carry_out(doing: Awaitable[Answer]) -> Answer:
    """Carry an action out to its end, also if the caller hangs up meanwhile."""
    task = asyncio.ensure_future(doing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        raise
