"""The rules of the scripted backend: matching, proposing, deciding, asking for hosts, remembering."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import BaseModel, ConfigDict

from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.infra import state_files
from hive_agent.repositories.configuration import ConfigRepository
from hive_agent.repositories.git_command import GitFailed
from hive_core import protocol
from hive_core.protocol import Delivery, ScriptDecision, ScriptHost, ScriptProposal, ScriptRule, ScriptWork

log = logging.getLogger(__name__)


_SEARCHED_CHARACTERS = 10_000
"""Length of the beginning of a body that is matched: the time of some expressions grows fast with the text."""
_MATCH_SECONDS = 1.0
"""Processor time for finding the rule of a message, during which the harness is blocked and renews no leases."""
_FIELD = re.compile(r"\{(body|sender|me|[1-9][0-9]?)\}")


class BadScript(Exception):
    """A rule of the script is not valid; the text says which and why."""


class SlowRule(Exception):
    """The expression of a rule took too long on a message; the text says which, and what to do."""


@dataclass(frozen=True)
class Match:
    """A rule that matches a message. `index` counts from 0; `groups` are those of its expression."""

    index: int
    rule: ScriptRule
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """The compiled rules of a script."""

    rules: tuple[tuple[ScriptRule, re.Pattern[str]], ...]

    @classmethod
    def compile(cls, rules: Sequence[ScriptRule]) -> Script:
        """Compile the rules. Raises BadScript for an invalid expression."""
        compiled = []
        for number, rule in enumerate(rules, 1):
            try:
                compiled.append((rule, re.compile(rule.match)))
            except (re.error, RecursionError, OverflowError) as error:
                raise BadScript(
                    f"rule {number} of the script: {rule.match!r} is not a regular expression: {error}"
                ) from None
        return cls(tuple(compiled))

    def match(self, delivery: Delivery) -> Match | None:
        """Find the first rule whose sender and expression match. Raises SlowRule if that takes too long."""
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
                f"rule {index + 1} of the script did not match message {delivery.id} within {_MATCH_SECONDS:g} s; "
                "write its `match` so that it backtracks less"
            ) from None
        return None


def fill(text: str, delivery: Delivery, me: str, groups: Sequence[str]) -> str:
    """Replace {body}, {sender}, {me} and {1}… in `text`; placeholders in inserted text are not replaced."""

    def value(found: re.Match[str]) -> str:
        match found.group(1):
            case "body":
                return delivery.body
            case "sender":
                return delivery.sender
            case "me":
                return me
            case number:
                index = int(number) - 1
                return groups[index] if index < len(groups) else ""

    return _FIELD.sub(value, text)


_LONGEST_NOTE = 10_000
_SEARCHED_PROPOSALS = 100
"""Number of the agent's newest proposals that are searched for the commit."""
_LONGEST_TITLE = 200
_LONGEST_HOST, _LONGEST_WHY = 300, 2_000
_DECIDED = frozenset({"approved", "deployed", "failed", "denied", "withdrawn"})


class NotDone(Exception):
    """An action of a rule is not possible; the text says why."""


class ScriptGate:
    """Executes what rules ask of the hive, once for each message, even if it is handled again.

    `clone_of` returns the agent's clone of a repository.
    """

    def __init__(
        self,
        name: str,
        client: CoreClient,
        repository: ConfigRepository,
        clone_of: Callable[[str], ConfigRepository],
    ) -> None:
        self._name = name
        self._client = client
        self._repository = repository
        self._clone_of = clone_of

    async def apply_rule(self, delivery: Delivery, match: Match) -> None:
        """Execute the rule, but for its messages. Raises NotDone, or CoreError for errors other than refusals."""
        propose, submit, decide = match.rule.propose, match.rule.submit, match.rule.decide
        if propose is not None:
            with _as_not_done("propose"):
                await self._propose(propose, self._fill_note(propose.note, delivery, match))
        if submit is not None:
            with _as_not_done("submit"):
                title = self._fill_note(submit.title, delivery, match)[:_LONGEST_TITLE]
                await self._submit(submit, title, self._fill_note(submit.description, delivery, match))
        if decide is not None:
            with _as_not_done("decide"):
                named = (decide.agent or decide.repo or "", decide.number, decide.note)
                subject, number, note = (self._fill_note(text, delivery, match) for text in named)
                await self._decide(decide, subject, number, note)
        if (ask := match.rule.request_network) is not None:
            with _as_not_done("request the network"):
                host, why = (self._fill_note(text, delivery, match) for text in (ask.host, ask.why))
                await self._request_network(ask, host, why)

    async def _propose(self, propose: ScriptProposal, note: str) -> None:
        commit = await self._repository.commit({change.path: change.text for change in propose.changes}, note)
        # A commit that was proposed before is not proposed again: the message is being handled a second time.
        mine = await self._client.proposals(
            protocol.ProposalsQuery(agent=self._name, state="all", limit=_SEARCHED_PROPOSALS)
        )
        for proposal in mine.proposals:
            if proposal.commit == commit:
                log.info("commit %s was proposed before, as %s/%d", commit, proposal.agent, proposal.number)
                return
        made = await self._client.propose(protocol.ProposeRequest(commit=commit, note=note))
        log.info("proposed commit %s as %s/%d", commit, made.agent, made.number)

    async def _submit(self, submit: ScriptWork, title: str, description: str) -> None:
        clone = self._clone_of(submit.repo)
        commit = await clone.commit({file.path: file.text for file in submit.files}, f"{title}\n\n{description}")
        # As for a proposal: a message that is handled a second time submits nothing.
        mine = await self._client.works(protocol.WorksQuery(repo=submit.repo, state="all", limit=_SEARCHED_PROPOSALS))
        for work in mine.work:
            if work.commit == commit and work.by == self._name:
                log.info("commit %s was submitted before, as %s/%d", commit, work.repo, work.number)
                return
        request = protocol.SubmitWork(repo=submit.repo, commit=commit, title=title, description=description)
        made = await self._client.submit_work(request)
        log.info("submitted commit %s as %s/%d", commit, made.repo, made.number)

    async def _decide(self, decide: ScriptDecision, subject: str, number: str, note: str) -> None:
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            raise NotDone(f"{number[:40]!r} is not the number of a proposal")
        if decide.repo is not None:
            await self._decide_on_work(decide, subject, int(number), note)
            return
        shown = await self._client.proposal(subject, int(number), protocol.ProposalQuery())
        if shown.state in _DECIDED:
            log.info("%s/%d is %s already", shown.agent, shown.number, shown.state)
        elif decide.decision == "approve":
            await self._client.approve(subject, int(number), protocol.ApproveRequest(expect=shown.state, note=note))
        else:
            await self._client.deny(subject, int(number), protocol.DenyRequest(expect=shown.state, note=note))

    async def _decide_on_work(self, decide: ScriptDecision, repo: str, number: int, note: str) -> None:
        shown = await self._client.work(repo, number, protocol.ProposalQuery())
        if shown.state in _DECIDED:
            log.info("%s/%d is %s already", repo, number, shown.state)
        elif decide.decision == "approve":
            request = protocol.ApproveWork(expect=shown.state, commit=shown.commit, note=note)
            await self._client.approve_work(repo, number, request)
        else:
            await self._client.deny_work(
                repo, number, protocol.DenyWork(expect=shown.state, commit=shown.commit, note=note)
            )

    async def _request_network(self, ask: ScriptHost, host: str, why: str) -> None:
        request = protocol.AskForHost(host=host[:_LONGEST_HOST], why=why[:_LONGEST_WHY], hours=ask.hours)
        try:
            made = await self._client.ask_for_host(request)
        except CoreError as error:
            if error.code != "host_allowed":
                raise
            # The request is approved, and the message is being handled a second time; or it was not needed.
            log.info("%s is reached already", host)
        else:
            log.info("asked for %s as request %d", made.host, made.id)

    def _fill_note(self, text: str, delivery: Delivery, match: Match) -> str:
        """Fill in `text`, truncated to the length of a note; never empty."""
        return fill(text, delivery, self._name, match.groups).strip()[:_LONGEST_NOTE] or "-"


@contextmanager
def _as_not_done(action: str) -> Iterator[None]:
    try:
        yield
    except (GitFailed, NotDone) as error:
        raise NotDone(f"could not {action}: {error}") from None
    except CoreError as error:
        if not error.refusal:
            raise
        raise NotDone(f"could not {action}: {error.message}") from None


_KEPT_RELAYS = 1_000
_MOST_BYTES = 16 * 1024 * 1024


class ScriptState(BaseModel):
    """A message that can be answered later."""

    model_config = ConfigDict(frozen=True)

    id: int
    sender: str


class _Content(BaseModel):
    labels: dict[str, ScriptState] = {}
    relays: dict[int, ScriptState] = {}
    """The message that requested a relay, by the id of the forwarded message. Oldest first."""


class ScriptMemory:
    """Labels of remembered messages, and open relays. Every change is on disk before the method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = state_files.load_model(path, _Content, _MOST_BYTES) or _Content()

    def label(self, label: str) -> ScriptState | None:
        return self._content.labels.get(label)

    def set_label(self, label: str, message: ScriptState) -> None:
        if self._content.labels.get(label) != message:
            self._content.labels[label] = message
            self._save()

    def asker(self, sent_id: int) -> ScriptState | None:
        """The message that requested the relay `sent_id`."""
        return self._content.relays.get(sent_id)

    def set_asker(self, sent_id: int, asker: ScriptState) -> None:
        relays = self._content.relays
        if relays.get(sent_id) == asker:
            return
        relays[sent_id] = asker
        while len(relays) > _KEPT_RELAYS:
            del relays[next(iter(relays))]
        self._save()

    def _save(self) -> None:
        state_files.replace_lines(self._path, [self._content.model_dump_json().encode()])


class RuleTimedOut(Exception):
    """The time limit of a calculation was exceeded."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block with RuleTimedOut once this process has used `seconds` of processor time in it.

    Works only in the main thread, also within `re`, which checks for signals. A thread would not help, as `re` holds
    the interpreter's lock.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise RuleTimedOut

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)
