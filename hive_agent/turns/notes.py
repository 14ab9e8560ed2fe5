"""The turn in which an agent writes down what it will need when its conversation is shortened."""

from __future__ import annotations

from datetime import UTC, datetime

from hive_agent.backends.base import Turn
from hive_agent.prompts.system_prompt import NOTES
from hive_core.protocol import Delivery
from hive_core.protocol.names import SYSTEM


def notes_turn(name: str) -> Turn:
    """A turn with one message of the harness's own, for the agent `name`; the hive knows nothing of it."""
    text = (
        "Your conversation is about to be shortened: of all that was said in it only a summary stays. "
        f"Write into {NOTES} in your working directory now what you will need and cannot find elsewhere: what you were "
        "asked for and by whom (with message numbers that are still to be answered), what is done, what is next, what "
        "you found out. Remove from it what is out of date. Do nothing else in this turn, send nothing and fetch no "
        "messages; then end it."
    )
    delivery = Delivery(
        id=0, sender=SYSTEM, to=name, body=text, sent_at=datetime.now(UTC), attempt=1, redelivered=False
    )
    return Turn((delivery,))
