"""A login under way, for a person on the agent's page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hive_agent.backends.base import Login, LoginFailed
from hive_agent.infra import log as harness_log
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns.conversation import Conversation

log = logging.getLogger(__name__)

_LOGIN_SECONDS = 900.0
"""After so long without a code the login is given up."""
_CODE_SECONDS = 120.0
_LONGEST_CODE = 10_000


class LoginController:
    """At most one login. `changed` is called when one begins or ends."""

    def __init__(self, conversation: Conversation, changed: Callable[[], object]) -> None:
        self._conversation = conversation
        self._changed = changed
        self._login: Login | None = None
        self._giving_up: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @property
    def url(self) -> str | None:
        """The address to open."""
        return None if self._login is None else self._login.url

    async def begin(self) -> str:
        """The address of the login that is under way, or of a new one. Raises ActionNotPossible."""
        async with self._lock:
            if self._login is not None:
                return self._login.url
            if self._conversation.busy:
                raise ActionNotPossible("The agent is at work. Log in when its turn is over, or cancel the turn.")
            try:
                self._login = await self._conversation.log_in()
            except LoginFailed as error:
                raise ActionNotPossible(str(error)) from None
            except Exception as error:
                log.error("no login was begun: %s", harness_log.where(error))
                raise ActionNotPossible("The agent CLI did not begin a login; the agent's log says why.") from None
            self._giving_up = asyncio.create_task(self._give_up())
            self._changed()
            return self._login.url

    async def give(self, code: str) -> None:
        """Hand over the code; the login is over then. Raises ActionNotPossible if it is not taken."""
        if not code.strip() or len(code) > _LONGEST_CODE or not code.isprintable():
            raise ActionNotPossible("This is no code. Paste the one that the address shows after logging in.")
        async with self._lock:
            if self._login is None:
                raise ActionNotPossible("No login is under way. Begin one first.")
            try:
                async with asyncio.timeout(_CODE_SECONDS):
                    await self._login.give(code.strip())
            except LoginFailed as error:
                raise ActionNotPossible(str(error)) from None
            except TimeoutError:
                raise ActionNotPossible(
                    f"The agent CLI did not say within {_CODE_SECONDS:g} s whether it takes the code."
                ) from None
            except Exception as error:
                log.error("the login broke: %s", harness_log.where(error))
                raise ActionNotPossible("The login broke; the agent's log says where. Begin it again.") from None
            finally:
                await self._end()

    async def close(self) -> None:
        """End the login that is under way."""
        async with self._lock:
            await self._end()

    async def _give_up(self) -> None:
        await asyncio.sleep(_LOGIN_SECONDS)
        self._giving_up = None
        await self.close()

    async def _end(self) -> None:
        login, self._login = self._login, None
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        if login is not None:
            try:
                await login.close()
            except Exception as error:
                log.error("the login did not close well: %s", harness_log.where(error))
            self._changed()
