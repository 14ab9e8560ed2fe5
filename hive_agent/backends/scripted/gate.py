"""What script rules do at the gate: propose changes of the agent's own configuration, and decide on proposals."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hive_agent.backends.scripted.script import Match, fill
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.config_repository import ConfigRepository, GitFailed
from hive_core import protocol
from hive_core.protocol import Delivery, ScriptDecision, ScriptProposal

log = logging.getLogger(__name__)

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
