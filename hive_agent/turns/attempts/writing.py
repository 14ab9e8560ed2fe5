"""The text that the model is writing, told to viewers piece by piece, several times a second at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

_SECONDS = 0.08
"""Time in which pieces are joined to one event: a model writes up to a hundred a second."""
MOST_CHARACTERS = 100_000
"""Characters of one text that are told while it is written."""


class WrittenText:
    """Publishes `writing` events: a piece of the text, and how many characters came before it."""

    def __init__(self, publish: Callable[[str, Mapping[str, object]], object]) -> None:
        self._publish = publish
        self._turn = 0
        self._told = 0
        self._pieces: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, turn: int, piece: str) -> None:
        """Tell a piece soon. A text goes on until `end` is called."""
        self._turn = turn
        self._pieces.append(piece)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SECONDS, self._tell)

    def end(self) -> None:
        """Forget the text: the whole of it is told now, or it has been given up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pieces.clear()
        self._told = 0

    def _tell(self) -> None:
        self._timer = None
        text = "".join(self._pieces)[: MOST_CHARACTERS - self._told]
        self._pieces.clear()
        if text:
            self._publish("writing", {"turn": self._turn, "at": self._told, "text": text})
            self._told += len(text)
