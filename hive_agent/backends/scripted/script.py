"""The rules of the scripted backend: matching, proposing, deciding, remembering."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import BaseModel, ConfigDict, ValidationError

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.config_repository import ConfigRepository, GitFailed
from hive_agent.infra import state_files
from hive_core import protocol
from hive_core.protocol import Delivery, ScriptDecision, ScriptProposal, ScriptRule

log = logging.getLogger(__name__)


_SEARCHED_CHARACTERS = 10_000
"""How much of a body rules see: some expressions take time that grows fast with the text."""
_MATCH_SECONDS = 1.0
"""Processor time for finding a message's rule: meanwhile the harness does nothing else, and no lease is renewed."""
_FIELD = re.compile(r"\{(body|sender|me|[1-9][0-9]?)\}")


class BadScript(Exception):
    """A rule of the script cannot be used; the text says which and why."""


class SlowRule(Exception):
    """A rule's expression took too long on a message; the text says which, and what to do."""


@dataclass(frozen=True)
class Match:
    """A rule that fits a message. `index` counts from 0; `groups` are those of its expression."""

    index: int
    rule: ScriptRule
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """A script's rules, ready to use."""

    rules: tuple[tuple[ScriptRule, re.Pattern[str]], ...]

    @classmethod
    def compile(cls, rules: Sequence[ScriptRule]) -> Script:
        """Raises BadScript for an expression that is not one."""
        compiled = []
        for number, rule in enumerate(rules, 1):
            try:
                compiled.append((rule, re.compile(rule.match)))
            except (re.error, RecursionError, OverflowError) as error:
                raise BadScript(
                    f"rule {number} of the script: {rule.match!r} is no regular expression: {error}"
                ) from None
        return cls(tuple(compiled))

    def match(self, delivery: Delivery) -> Match | None:
        """The first rule whose sender and expression fit. Raises SlowRule if that cannot be found out in time."""
        text = delivery.body[:_SEARCHED_CHARACTERS]
        index = 0
        try:
            with cpu_limit(_MATCH_SECONDS):
                for index, (rule, pattern) in enumerate(self.rules):
                    if rule.sender is not None and rule.sender != delivery.sender:
                        continue
                    found = pattern.search(text)
                    if found is not None:
                        return Match(index, rule, found.groups(default=""))
        except RuleTimedOut:
            raise SlowRule(
                f"rule {index + 1} of the script was not done with message {delivery.id} after {_MATCH_SECONDS:g} s; "
                "write its `match` so that it backtracks less"
            ) from None
        return None


def fill(text: str, delivery: Delivery, me: str, groups: Sequence[str]) -> str:
    """`text` with {body}, {sender}, {me} and {1}… put in, once: what is put in is not looked at again."""

    def value(found: re.Match[str]) -> str:
        match found.group(1):
            case "body":
                return delivery.body
            case "sender":
                return delivery.sender
            case "me":
                return me
            case number:
                place = int(number) - 1
                return groups[place] if place < len(groups) else ""

    return _FIELD.sub(value, text)


_LONGEST_NOTE = 10_000
_LOOKED_AT = 100
"""How many of the agent's newest proposals are looked at for one that holds the commit already."""
_ENDED = frozenset({"deployed", "failed", "denied", "withdrawn"})


class NotDone(Exception):
    """What a rule asks for cannot be done; the text says why."""


class ScriptGate:
    """Carries out `propose` and `decide` of rules; once, however often their message is handled."""

    def __init__(self, name: str, client: CoreClient, repository: ConfigRepository) -> None:
        self._name = name
        self._client = client
        self._repository = repository

    async def carry_out(self, delivery: Delivery, match: Match) -> None:
        """Propose, then decide, as far as the rule says so. Raises NotDone; CoreError if the hive is in trouble."""
        propose, decide = match.rule.propose, match.rule.decide
        if propose is not None:
            with _in_words("propose"):
                await self._propose(propose, self._filled(propose.note, delivery, match))
        if decide is not None:
            with _in_words("decide"):
                agent, number = (self._filled(text, delivery, match) for text in (decide.agent, decide.number))
                await self._decide(decide, agent, number, self._filled(decide.note, delivery, match))

    async def _propose(self, propose: ScriptProposal, note: str) -> None:
        commit = await self._repository.commit({change.path: change.text for change in propose.changes}, note)
        # A commit that was proposed before is left alone, how ever that ended: the message comes a second time.
        mine = await self._client.proposals(protocol.ProposalsQuery(agent=self._name, state="all", limit=_LOOKED_AT))
        for proposal in mine.proposals:
            if proposal.commit == commit:
                log.info("commit %s was proposed before, as %s/%d", commit, proposal.agent, proposal.number)
                return
        made = await self._client.propose(protocol.ProposeRequest(commit=commit, note=note))
        log.info("proposed commit %s as %s/%d", commit, made.agent, made.number)

    async def _decide(self, decide: ScriptDecision, agent: str, number: str, note: str) -> None:
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise NotDone(f"{number[:40]!r} is no proposal's number")
        shown = await self._client.proposal(agent, int(number), protocol.ProposalQuery())
        if shown.state in _ENDED or shown.state == "approved":
            log.info("%s/%d is %s already", shown.agent, shown.number, shown.state)
        elif decide.decision == "approve":
            await self._client.approve(agent, int(number), protocol.ApproveRequest(expect=shown.state, note=note))
        else:
            await self._client.deny(agent, int(number), protocol.DenyRequest(expect=shown.state, note=note))

    def _filled(self, text: str, delivery: Delivery, match: Match) -> str:
        """`text` with its fields put in, cut to what the hive takes as a note; never empty."""
        return fill(text, delivery, self._name, match.groups).strip()[:_LONGEST_NOTE] or "-"


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    try:
        yield
    except (GitFailed, NotDone) as error:
        raise NotDone(f"could not {what}: {error}") from None
    except CoreError as error:
        if not error.refusal:
            raise
        raise NotDone(f"could not {what}: {error.message}") from None


_KEPT_RELAYS = 1_000


class ScriptState(BaseModel):
    """A message that can be answered later."""

    model_config = ConfigDict(frozen=True)

    id: int
    sender: str


class _Content(BaseModel):
    labels: dict[str, ScriptState] = {}
    relays: dict[int, ScriptState] = {}
    """By the id of the message that was sent on: who had asked for it. Oldest first."""


class ScriptMemory:
    """Labels of remembered messages, and open relays. Every change is on disk before the method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._load()

    def label(self, label: str) -> ScriptState | None:
        return self._content.labels.get(label)

    def set_label(self, label: str, message: ScriptState) -> None:
        if self._content.labels.get(label) != message:
            self._content.labels[label] = message
            self._save()

    def asker(self, sent_id: int) -> ScriptState | None:
        """Who asked for the message `sent_id` to be sent."""
        return self._content.relays.get(sent_id)

    def set_asker(self, sent_id: int, asker: ScriptState) -> None:
        relays = self._content.relays
        if relays.get(sent_id) == asker:
            return
        relays[sent_id] = asker
        while len(relays) > _KEPT_RELAYS:
            del relays[next(iter(relays))]
        self._save()

    def _load(self) -> _Content:
        try:
            return _Content.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Content()
        except (OSError, ValidationError) as error:
            # The file is the agent's own and can be rebuilt by talking: not a reason to refuse every message.
            log.warning("%s cannot be read (%s), starting without memory", self._path, type(error).__name__)
            return _Content()

    def _save(self) -> None:
        state_files.replace_lines(self._path, [self._content.model_dump_json().encode()])


class RuleTimedOut(Exception):
    """The calculation was broken off."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Break the block off with RuleTimedOut once this process has used `seconds` of processor time in it.

    For the main thread only. Works in `re` too, which looks for signals; a thread would not help, as `re` holds the
    interpreter's lock.
    """

    def broken_off(_signal: int, _frame: FrameType | None) -> None:
        raise RuleTimedOut

    before = signal.signal(signal.SIGVTALRM, broken_off)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
