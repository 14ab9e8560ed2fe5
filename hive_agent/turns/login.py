"""Logging the backend in, with the operator's help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hive_agent.backends.base import Login, LoginFailed
from hive_agent.infra import log as harness_log
from hive_agent.interfaces import ActionNotPossible
from hive_agent.turns.conversation.conversation import Conversation

log = logging.getLogger(__name__)

T = TypeVar("T")

_LOGIN_SECONDS = 900.0
"""A login without a code is cancelled after this time."""
_CODE_SECONDS = 120.0
_LONGEST_CODE = 10_000


class LoginController:
    """At most one login at a time. `changed` is called when one starts or ends.

    A program that neither accepts nor rejects a code keeps nobody waiting: `close` and a new login end the check.
    """

    def __init__(self, conversation: Conversation, changed: Callable[[], object]) -> None:
        self._conversation = conversation
        self._changed = changed
        self._login: Login | None = None
        self._expiry: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._step: asyncio.Task[Any] | None = None
        """The work of the program at the moment, while the lock is held."""
        self._checks_code = False

    @property
    def url(self) -> str | None:
        """The address to open; None if no login is in progress."""
        return None if self._login is None else self._login.url

    async def begin(self) -> str:
        """The address of the login in progress, or of a new one while a code is checked. Raises ActionNotPossible."""
        if self._checks_code:
            self._cancel_step()  # Whoever logs in again has given that code up.
        async with self._lock:
            if self._login is not None:
                return self._login.url
            if self._conversation.busy:
                raise ActionNotPossible("A turn is running. Log in when it has ended, or cancel it.")
            try:
                self._login = await self._run(self._conversation.log_in())
            except (LoginFailed, ActionNotPossible) as error:
                raise ActionNotPossible(str(error)) from None
            except Exception as error:
                log.error("the login could not be started: %s", harness_log.where(error))
                raise ActionNotPossible("The agent CLI did not start a login. See the agent's log.") from None
            self._expiry = asyncio.create_task(self._expire())
            self._changed()
            return self._login.url

    async def submit_code(self, code: str) -> None:
        """Pass the code to the agent CLI, which ends the login. Raises ActionNotPossible if it is rejected."""
        if not code.strip() or len(code) > _LONGEST_CODE or not code.isprintable():
            raise ActionNotPossible("This is not a valid code. Paste the one that the address shows after logging in.")
        async with self._lock:
            if self._login is None:
                raise ActionNotPossible("No login is in progress. Start one first.")
            self._checks_code = True
            try:
                async with asyncio.timeout(_CODE_SECONDS):
                    await self._run(self._login.submit_code(code.strip()))
            except (LoginFailed, ActionNotPossible) as error:
                raise ActionNotPossible(str(error)) from None
            except TimeoutError:
                raise ActionNotPossible(
                    f"The agent CLI did not accept or reject the code within {_CODE_SECONDS:g} s."
                ) from None
            except Exception as error:
                log.error("the login failed: %s", harness_log.where(error))
                raise ActionNotPossible("The login failed. See the agent's log, then start again.") from None
            finally:
                self._checks_code = False
                await self._end()

    async def close(self) -> None:
        """Cancel the login in progress, also while the program is started or checks a code."""
        self._cancel_step()
        async with self._lock:
            await self._end()

    async def _run(self, step: Coroutine[Any, Any, T]) -> T:
        """Await a step of the login, which `_cancel_step` can end. Raises ActionNotPossible then."""
        self._step = task = asyncio.create_task(step)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise ActionNotPossible("This login was given up: the agent ends, or a new login was begun.") from None
        finally:
            self._step = None

    def _cancel_step(self) -> None:
        if self._step is not None:
            self._step.cancel()

    async def _expire(self) -> None:
        await asyncio.sleep(_LOGIN_SECONDS)
        self._expiry = None
        await self.close()

    async def _end(self) -> None:
        login, self._login = self._login, None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if login is not None:
            try:
                await login.close()
            except Exception as error:
                log.error("closing the login failed: %s", harness_log.where(error))
            self._changed()
