"""The scripted backend: deterministic, without a model. It applies `script` of agent.toml, else three default rules.

The default rules: `relay NAME: TEXT` is forwarded to NAME and the answer is sent back; any other message that is no
reply is answered `<me> heard: <body>`; other replies get no answer. Handling a message twice sends nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence

from hive_agent.backends.base import (
    Backend,
    BackendContext,
    Choice,
    Failed,
    Login,
    LoginFailed,
    NeedsLogin,
    Ok,
    Turn,
    TurnOutcome,
)
from hive_agent.backends.scripted.script import (
    BadScript,
    Match,
    NotDone,
    Script,
    ScriptGate,
    ScriptMemory,
    ScriptState,
    SlowRule,
    fill,
)
from hive_agent.backends.transcript import EntrySink, TextPiece, ToolCall, ToolResult, TranscriptText
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.repositories.configuration import ConfigRepository
from hive_core.protocol import AgentConfig, Delivery, ScriptSend, SendAnswer, SendRequest
from hive_core.protocol.names import NAME, SYSTEM

log = logging.getLogger(__name__)

_RELAY = re.compile(rf"\s*relay\s+({NAME})\s*:\s*(.*)", re.DOTALL)
_WORD = re.compile(r"\s*\S+\s*")
_SLOWER_SECONDS = 2.0
"""Time between two attempts of a send for which the agent's budget of a minute is used up."""


def open_backend(context: BackendContext) -> Backend:
    """Open the scripted backend, with its memory in the agent's state directory."""
    name, environment = context.profile.name, context.environment
    memory = ScriptMemory(environment.state / "script.json")
    repository = ConfigRepository(environment.config, name, environment.variables)

    def clone_of(repo: str) -> ConfigRepository:
        return ConfigRepository(environment.code / repo, name, environment.variables)

    gate = ScriptGate(name, context.client, repository, clone_of)
    return ScriptedBackend(name, context.profile.config, context.client, memory, gate)


class ScriptedBackend:
    """Handles the messages of a turn one after another."""

    models: Sequence[str] = ()

    def __init__(
        self, name: str, config: AgentConfig, client: CoreClient, memory: ScriptMemory, gate: ScriptGate
    ) -> None:
        self._name = name
        self._config = config
        self._client = client
        self._memory = memory
        self._gate = gate
        self._emit: EntrySink = lambda _entry: None
        self._attempt = ""
        self._calls = 0

    async def run(self, turn: Turn, emit: EntrySink) -> TurnOutcome:
        self._emit, self._attempt, self._calls = emit, f"{turn.id}.{turn.attempt}", 0
        try:
            script = Script.compile(self._config.script)
        except BadScript as error:
            return Failed("config", str(error))
        deliveries: Sequence[Delivery] = turn.deliveries
        while deliveries:
            for delivery in deliveries:
                try:
                    match = script.match(delivery)
                except SlowRule as error:
                    # The turn fails because of this message; others may be matched in time.
                    return Failed("timeout", str(error))
                if match is not None:
                    await self._apply_rule(delivery, match)
                else:
                    await self._apply_default(delivery)
            deliveries = await turn.more() if turn.more is not None else ()
        return Ok()

    async def compact(self, emit: EntrySink, focus: str = "") -> TurnOutcome:
        return Ok()

    async def new_session(self, *, notes: bool = False) -> None:
        """Nothing to do: there is no conversation, and the memory of rules stays."""

    async def return_to_session(self) -> None:
        """Nothing to do: there is no conversation."""

    async def choose(self, choice: Choice) -> None:
        """Nothing to do: there is no model."""

    async def log_in(self) -> Login:
        raise LoginFailed("the scripted backend needs no login")

    async def logged_in(self) -> bool:
        return True

    async def find_problem(self) -> Failed | NeedsLogin | None:
        try:
            Script.compile(self._config.script)
        except BadScript as error:
            return Failed("config", str(error))
        return None

    @property
    def warm(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _apply_rule(self, delivery: Delivery, match: Match) -> None:
        self._emit(
            TranscriptText(
                f"Message {delivery.id} from {delivery.sender} matches rule {match.index + 1} of the script."
            )
        )
        if match.rule.remember is not None:
            self._memory.set_label(match.rule.remember, ScriptState(id=delivery.id, sender=delivery.sender))
        await self._think(match.rule.think, fill(match.rule.say, delivery, self._name, match.groups))
        try:
            await self._gate.apply_rule(delivery, match)
        except NotDone as error:
            log.warning("message %d: %s", delivery.id, error)
            await self._report_error(delivery, f"rule{match.index}:gate", str(error))
            return
        for number, step in enumerate(match.rule.send):
            await self._send_step(delivery, match, step, f"rule{match.index}:{number}")

    async def _think(self, seconds: float, said: str) -> None:
        """Let time pass, in which the text is written word by word."""
        words = _WORD.findall(said)
        for word in words:
            self._emit(TextPiece(word))
            await asyncio.sleep(seconds / len(words))
        if said:
            self._emit(TranscriptText(said))
        elif seconds:
            await asyncio.sleep(seconds)

    async def _send_step(self, delivery: Delivery, match: Match, step: ScriptSend, key: str) -> None:
        text = fill(step.text, delivery, self._name, match.groups)
        if not step.to.startswith("@"):
            reply_to = delivery.id if step.to == delivery.sender else None
            await self._send(delivery, key, step.to, text, reply_to)
            return
        remembered = self._memory.label(step.to[1:])
        if remembered is None:
            await self._report_error(delivery, key, f"no message is remembered as {step.to}")
        else:
            await self._send(delivery, key, remembered.sender, text, remembered.id)

    async def _apply_default(self, delivery: Delivery) -> None:
        self._emit(TranscriptText(f"Message {delivery.id} from {delivery.sender} matches no rule."))
        if delivery.reply_to is not None:
            asker = self._memory.asker(delivery.reply_to)
            if asker is not None:
                await self._send(delivery, "back", asker.sender, delivery.body, asker.id)
            return
        if delivery.sender == SYSTEM:
            return  # messages of the hive itself cannot be answered
        relay = _RELAY.fullmatch(delivery.body)
        if relay is None:
            await self._send(delivery, "heard", delivery.sender, f"{self._name} heard: {delivery.body}", delivery.id)
            return
        sent = await self._send(delivery, "relay", relay[1], relay[2], None)
        if sent is not None:
            self._memory.set_asker(sent.id, ScriptState(id=delivery.id, sender=delivery.sender))

    async def _send(self, delivery: Delivery, key: str, to: str, body: str, reply_to: int | None) -> SendAnswer | None:
        """Send once, even if the delivery comes again. None after a refusal, which is reported to its sender."""
        self._calls += 1
        call = ToolCall(f"{self._attempt}.{self._calls}", "send", {"to": to, "body": body, "reply_to": reply_to})
        self._emit(call)
        try:
            answer = await self._send_within_budget(
                SendRequest(to=to, body=body, reply_to=reply_to, idempotency_key=f"script:{delivery.id}:{key}")
            )
            self._emit_result(call, f"Sent to {', '.join(answer.recipients)} as message {answer.id}.")
            return answer
        except CoreError as error:
            self._emit_result(call, error.message, is_error=True)
            if not error.refusal:
                raise
            if error.code == "idempotency_conflict":
                log.info("message %d was answered before the script changed", delivery.id)
                return None
            log.warning("message %d: the hive refused a send to %s: %s", delivery.id, to, error)
            await self._report_error(delivery, key, f"could not send to {to}: {error.message}")
            return None

    async def _send_within_budget(self, request: SendRequest) -> SendAnswer:
        """Send, again and again while the agent sends too fast: the turn's time limit ends that at the latest."""
        while True:
            try:
                return await self._client.send(request)
            except CoreError as error:
                if error.code != "sending_too_fast":
                    raise
                log.info("the hive asks to send slower: %s", error)
                await asyncio.sleep(_SLOWER_SECONDS)

    def _emit_result(self, call: ToolCall, text: str, *, is_error: bool = False) -> None:
        self._emit(ToolResult(call.id, text, is_error, len(text)))

    async def _report_error(self, delivery: Delivery, key: str, error_text: str) -> None:
        """Send an error to the delivery's sender; a refusal of that message is logged."""
        if delivery.sender == SYSTEM:
            return
        request = SendRequest(
            to=delivery.sender,
            body=f"{self._name}: {error_text}",
            reply_to=delivery.id,
            idempotency_key=f"script:{delivery.id}:{key}:refused",
        )
        try:
            await self._client.send(request)
        except CoreError as error:
            if not error.refusal:
                raise
            log.warning("message %d: its sender could not be sent `%s`: %s", delivery.id, error_text, error)
