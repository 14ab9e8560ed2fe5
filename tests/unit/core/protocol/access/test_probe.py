"""The order of a probe and its report, which is an agent's word."""

from __future__ import annotations

import json

import pytest

from hive_core.protocol.access.probe import (
    MOST_TRIES,
    BadProbe,
    Tried,
    Try,
    decode_order,
    decode_report,
    encode_order,
    encode_report,
)


def test_orders_and_reports_arrive_as_they_were() -> None:
    """Both ends read what the other has written."""
    tries = [Try("tcp", "127.0.0.1", 80), Try("unix", "@name"), Try("proxy", "a.example", 443)]
    assert decode_order(encode_order("token", tries)) == ("token", tries)
    tried = [Tried("reached", "", "hello"), Tried("blocked", "Network is unreachable"), Tried("silent")]
    assert decode_report(encode_report(tried).encode(), 3) == tried


@pytest.mark.parametrize(
    "report",
    [
        *(b"", b"\xff", b"{}", b"[1]", b"[" * 100_000, b"[[]]", b"null", b"[{}]"),
        b'[{"outcome": "fine", "detail": "", "answer": ""}]',
        b'[{"outcome": ["reached"], "detail": "", "answer": ""}]',
        encode_report([Tried("blocked")] * 2).encode(),
    ],
)
def test_a_report_that_is_none_is_refused(report: bytes) -> None:
    """Whatever an agent sends, it is a report on what was to be tried, or an error."""
    with pytest.raises(BadProbe):
        decode_report(report, 1)


def test_texts_of_a_report_are_cut() -> None:
    """No detail is so long that it hides the others."""
    (tried,) = decode_report(encode_report([Tried("refused", "x" * 10_000, "y" * 10_000)]).encode(), 1)
    assert (len(tried.detail), len(tried.answer)) == (200, 200)


def test_orders_are_bounded() -> None:
    """The program makes no more tries at once than it has threads for, and no others than it knows."""
    for tries in ([Try("tcp", "127.0.0.1", 1)] * (MOST_TRIES + 1), [Try("raw", "x")]):  # type: ignore[arg-type]
        with pytest.raises(BadProbe):
            decode_order(encode_order("token", tries))
    with pytest.raises(BadProbe):
        decode_order(json.dumps({"tries": []}))
