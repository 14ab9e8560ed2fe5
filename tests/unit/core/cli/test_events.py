"""Reading a `text/event-stream`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hive_core.cli.event_stream import Item, parse


def items(text: str) -> list[Item]:
    return list(parse(line.encode() for line in text.splitlines(keepends=True)))


def test_items_are_found() -> None:
    """Comments are skipped, lines of data joined, and the last id holds until the next."""
    stream = ": welcome\n\nid: 4\nevent: x\ndata: one\ndata:two\n\ndata: three\r\n\r\n: alive\n\n"
    assert items(stream) == [Item("4", "one\ntwo"), Item("4", "three")]


def test_an_id_alone_counts() -> None:
    """An id without data names where to go on, before anything has happened."""
    assert items("id: 9\n\n") == [Item("9", "")]


def test_a_half_item_is_dropped() -> None:
    """What the daemon did not finish to say is not shown; it comes again after the reconnect."""
    assert items("id: 4\ndata: one\n\nid: 5\ndata: tw") == [Item("4", "one")]


@given(st.lists(st.binary(max_size=50)))
def test_garbage_does_no_harm(lines: list[bytes]) -> None:
    """Bytes that are no stream end in no error."""
    assert all(isinstance(item, Item) for item in parse(lines))
