"""How much of a list one answer holds: its texts are agents' own, who may have made them as long as they can."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

_MOST_BYTES = 4 * 1024 * 1024
_ENVELOPE_BYTES = 500


class Shown(Protocol):
    """A row as it is listed."""

    def texts(self) -> Iterable[str]:
        """All in it that may be long."""


R = TypeVar("R", bound=Shown)


def fitting(rows: Iterable[R]) -> Iterator[R]:
    """The first of `rows`, fewer if they make more than about 4 MiB of JSON; at least one if there is any."""
    size = 0
    for number, row in enumerate(rows):
        # Control characters grow six-fold in JSON.
        size += _ENVELOPE_BYTES + sum(len(json.dumps(text, ensure_ascii=False).encode()) for text in row.texts())
        if number and size > _MOST_BYTES:
            return
        yield row
