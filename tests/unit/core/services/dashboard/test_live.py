"""Events that keep the parts of windows up to date."""

from __future__ import annotations

import json

from hive_core.services.dashboard.live import Pieces, changes_of
from hive_core.services.dashboard.rendering import Html


def _read(event: bytes) -> tuple[str, dict[str, object]]:
    kind, data = event.decode().strip().split("\n")
    return kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_windows_get_only_the_pieces_that_changed() -> None:
    """A window gets all pieces at first, then those that are new or different, and always their order."""
    first = Pieces(a=Html("<p id=a>1"), b=Html("<p id=b>1"))
    assert _read(changes_of("x", None, first)) == ("pieces", {"part": "x", "order": ["a", "b"], "changed": dict(first)})
    second = Pieces(c=Html("<p id=c>1"), b=Html("<p id=b>1"), a=Html("<p id=a>2"))
    changed = {"c": "<p id=c>1", "a": "<p id=a>2"}
    assert _read(changes_of("x", first, second)) == (
        "pieces",
        {"part": "x", "order": ["c", "b", "a"], "changed": changed},
    )


def test_a_part_of_one_piece_is_sent_whole() -> None:
    """A part that is no list of pieces is sent as it is, whatever the window shows."""
    assert _read(changes_of("x", Html("<p>1"), Html("<p>2"))) == ("part", {"part": "x", "html": "<p>2"})
