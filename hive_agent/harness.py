"""The harness: start, run and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

from hive_agent.backends.base import Backend
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.client.registration import Registration
from hive_agent.interfaces import Controls
from hive_agent.turns import failure_policy
from hive_agent.turns.attempts.operator_pause import OperatorPause
from hive_agent.turns.conversation.conversation import Conversation
from hive_agent.turns.conversation.state import ConversationStateFile
from hive_agent.turns.history import TurnHistory
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.loop import Pause, TurnLoop
from hive_agent.turns.operator_controls import OperatorControls, PendingRequests
from hive_agent.turns.turn_log import Publish, TurnLog
from hive_core.protocol import HarnessState, Profile

log = logging.getLogger(__name__)

_STOP_SECONDS = 2.0
_PREPARE_SECONDS = 5.0
"""Time of the preparation of turns after which the agent counts as ready all the same."""
_LONGEST_NOTICE = 2_000

Page = Callable[[Controls, Profile], AbstractAsyncContextManager[object]]
"""Serves the agent's page while the harness runs."""
Programs = Callable[[Profile], AbstractAsyncContextManager[object]]
"""Keeps the agent's long-running programs while the harness runs."""


Prepare = Callable[[Profile], Coroutine[Any, Any, Sequence[str]]]
"""Prepares the directories of turns; returns the problems in words."""


async def _prepare_nothing(_profile: Profile) -> Sequence[str]:
    return ()


class Harness:
    """One instance of an agent's harness, known to the daemon as `instance`.

    `deployment` is the deployment that the runtime has started: with it, and with the first reported state, the daemon
    knows that a new configuration works. `client` must have unlimited patience: while the daemon is down, a turn
    continues and calls wait. The harness registers again with the restarted daemon. `publish` gets all events; `page`
    gets the controls for the operator, `programs` the agent's profile. `prepare` is awaited before the first turn, and
    meanwhile the agent counts as ready to work.
    """

    def __init__(
        self,
        client: CoreClient,
        instance: str,
        version: str,
        state: Path,
        open_backend: Callable[[Profile], Backend],
        deployment: int | None = None,
        *,
        publish: Publish = lambda _kind, _data: None,
        page: Page = lambda _controls, _profile: contextlib.nullcontext(),
        programs: Programs = lambda _profile: contextlib.nullcontext(),
        prepare: Prepare = _prepare_nothing,
        pause: Pause = failure_policy.pause,
    ) -> None:
        self._client = client
        self._instance = instance
        self._state = state
        self._open_backend = open_backend
        self._publish = publish
        self._page = page
        self._programs = programs
        self._prepare = prepare
        self._pause = pause
        self._registration = Registration(client, instance, version, deployment, self._registered_again)
        self._turn_loop: TurnLoop | None = None
        self._controls: OperatorControls | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Handle messages until `stop` is set or a newer harness takes over; then stop the turn and release leases.

        Raises CoreError if the daemon refuses this harness at the start, and StuckBackend.
        """
        work = asyncio.create_task(self._work())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                return
            log.info("stopping")
            settling = self._turn_loop.settling if self._turn_loop is not None else None
            if settling is not None:  # the turn has succeeded: its messages must not be handled a second time
                await asyncio.wait({settling}, timeout=_STOP_SECONDS)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            with contextlib.suppress(TimeoutError, CoreError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await LeasedInbox(self._client, self._instance, lambda: 0.0).release_all()
        except CoreError as error:
            if error.code != "superseded":
                raise
            log.info("a newer harness has taken over, stopping: %s", error.message)
        finally:
            work.cancel()
            stopped.cancel()
            await asyncio.gather(work, stopped, return_exceptions=True)

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(self._registration.close)
            profile = await self._registration.hello()
            log.info("serving %s (%s) on deployment %d", profile.name, profile.config.backend, profile.deployment)
            turn_loop, controls = await self._build(stack, profile)
            await self._open(stack, self._page(controls, profile), "the agent's page cannot be served")
            stack.push_async_callback(controls.close)  # Before the page, which waits for requests that log in.
            await self._open(stack, self._programs(profile), "long-running programs cannot be kept")
            background = [
                asyncio.create_task(self._registration.keep()),
                asyncio.create_task(turn_loop.keep_checking()),
            ]
            try:
                await self._start_turns(turn_loop, profile)
                while True:
                    await turn_loop.run_step()
            finally:
                for task in background:
                    task.cancel()
                await asyncio.gather(*background, return_exceptions=True)

    async def _start_turns(self, turn_loop: TurnLoop, profile: Profile) -> None:
        """Prepare the directories of turns, and report that the harness waits for messages.

        That is reported before the preparation has ended if it takes long, because the configuration works. The
        operator is told of problems, and the harness works all the same.
        """
        preparing = asyncio.ensure_future(self._prepare(profile))
        try:
            done, _ = await asyncio.wait({preparing}, timeout=_PREPARE_SECONDS)
            await turn_loop.start()
            if not done:
                await self._say("idle", "writes the files of its repositories; turns wait for them")
            problems = await preparing
        finally:
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
        if problems:
            await self._say("idle", "", notice="\n".join(problems)[:_LONGEST_NOTICE])
        if problems or not done:
            await turn_loop.report_idle()

    async def _build(self, stack: AsyncExitStack, profile: Profile) -> tuple[TurnLoop, OperatorControls]:
        """Build the parts of the harness, which are closed with `stack`."""
        turn_log = await TurnLog.open(TurnHistory(self._state / "turns"), self._publish, crashed=profile.crashed)
        stack.callback(turn_log.close)
        state_file = ConversationStateFile(self._state / "conversation.json", profile.config.backend)
        conversation = Conversation(profile, self._open_backend, state_file, self.changed)
        stack.push_async_callback(conversation.close)
        requests = PendingRequests()
        operator_pause = OperatorPause(self._state / "pause.json")
        inbox = LeasedInbox(
            self._client,
            self._instance,
            lambda: self._registration.lease_seconds,
            lambda: self._publish("inbox", {}),
        )
        self._turn_loop = turn_loop = TurnLoop(
            state=self._state,
            instance=self._instance,
            client=self._client,
            inbox=inbox,
            turn_log=turn_log,
            conversation=conversation,
            requests=requests,
            say=self._say,
            pause=self._pause,
            operator_pause=operator_pause,
        )
        self._controls = controls = OperatorControls(
            profile=profile,
            turn_log=turn_log,
            conversation=conversation,
            inbox=inbox,
            requests=requests,
            running=lambda: turn_loop.stopper,
            publish=self._publish,
            pause=operator_pause,
            paused_for=lambda: turn_loop.paused_for,
            control_key=lambda: self._registration.control_key,
        )
        stack.push_async_callback(controls.close)
        return turn_loop, controls

    async def _open(self, stack: AsyncExitStack, service: AbstractAsyncContextManager[object], problem: str) -> None:
        """Open something that the agent can work without."""
        try:
            await stack.enter_async_context(service)
        except OSError as error:
            log.error("%s: %s", problem, error)

    def _registered_again(self) -> None:
        """Try again what a budget did not allow: the new daemon may have other limits."""
        if self._controls is not None:
            self._controls.end_refusal()

    async def _say(
        self,
        state: HarnessState,
        detail: str,
        notice: str = "",
        goes_on_at: float | None = None,
        turn: int | None = None,
    ) -> None:
        if self._controls is not None:
            self._controls.state, self._controls.detail = state, detail[:2_000]
        self._publish("state", {"state": state, "detail": detail[:2_000]})
        work = None if self._controls is None else self._controls.work()
        await self._registration.report(state, detail, notice, goes_on_at, turn, work)

    def changed(self) -> None:
        """Publish the current state after a change of the conversation or its backend."""
        if self._controls is not None:
            self._controls.changed()
