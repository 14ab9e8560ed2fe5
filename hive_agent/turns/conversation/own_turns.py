"""Turns that the harness runs for itself: their only message is from the harness, and the daemon does not know it."""

from __future__ import annotations

from datetime import UTC, datetime

from hive_agent.backends.base import Turn
from hive_agent.prompts.system_prompt import NOTES
from hive_core.protocol import Delivery
from hive_core.protocol.names import SYSTEM


def notes_turn(name: str) -> Turn:
    """Build the turn in which the agent `name` writes its notes before its conversation is compacted."""
    return _own_turn(
        name,
        "Your conversation is about to be compacted: only a summary of it will remain. "
        f"Now write to {NOTES} in your working directory everything that you will need and cannot find elsewhere: the "
        "requests that you received and from whom (with the numbers of messages that still need an answer), the work "
        "that is done, the next steps, your findings. Remove outdated content from it. Do nothing else in this turn: "
        "send nothing and fetch no messages. Then end the turn.",
    )


def check_turn(name: str) -> Turn:
    """Build the turn that shows whether the conversation of the agent `name` can go on: it asks for nothing."""
    return _own_turn(
        name,
        "Your last turns failed, and the hive checks whether this conversation can go on. Do nothing in this turn: use "
        "no tools, do not continue your work yet. Answer with the word `ready`, and end the turn.",
    )


def _own_turn(name: str, text: str) -> Turn:
    delivery = Delivery(
        id=0, sender=SYSTEM, to=name, body=text, sent_at=datetime.now(UTC), attempt=1, redelivered=False
    )
    return Turn((delivery,))
