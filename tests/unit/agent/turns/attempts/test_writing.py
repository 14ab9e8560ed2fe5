"""The text that the model is writing, as viewers are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hive_agent.turns.attempts import writing
from hive_agent.turns.attempts.writing import WrittenText


class Told:
    """The events that are published, and a signal of them."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, object]] = []
        self.told = asyncio.Event()

    def publish(self, kind: str, data: Mapping[str, object]) -> None:
        assert kind == "writing"
        self.events.append(data)
        self.told.set()


async def test_pieces_are_joined_and_go_on() -> None:
    """Pieces that come at once are one event; the next says how many characters came before it."""
    told = Told()
    text = WrittenText(told.publish)
    for piece in ("one ", "two ", "three"):
        text.add(4, piece)
    await told.told.wait()
    told.told.clear()
    text.add(4, " four")
    await told.told.wait()
    assert told.events == [
        {"turn": 4, "at": 0, "text": "one two three"},
        {"turn": 4, "at": 13, "text": " four"},
    ]


async def test_a_text_that_has_ended_is_told_no_more() -> None:
    """Nothing of a text follows its end, and the next one begins at 0."""
    told = Told()
    text = WrittenText(told.publish)
    text.add(4, "given up")
    text.end()
    text.add(4, "anew")
    await told.told.wait()
    assert told.events == [{"turn": 4, "at": 0, "text": "anew"}]


async def test_an_endless_text_is_told_in_part() -> None:
    """A text without an end costs viewers no more than the largest one that is told."""
    told = Told()
    text = WrittenText(told.publish)
    text.add(1, "x" * (writing.MOST_CHARACTERS + 5))
    await told.told.wait()
    assert len(str(told.events[0]["text"])) == writing.MOST_CHARACTERS
