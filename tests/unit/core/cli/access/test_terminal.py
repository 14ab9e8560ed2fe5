"""The way out of a session that is typed."""

from __future__ import annotations

import pytest

from hive_core.cli.access.terminal import Keys


@pytest.mark.parametrize(
    ("typed", "passed", "left"),
    [
        ([b"ls\r", b"exit\r"], b"ls\rexit\r", False),
        ([b"~."], b"", True),
        ([b"ls\r", b"~", b".rest"], b"ls\r", True),
        ([b"cd ~.\r"], b"cd ~.\r", False),
        ([b"~~.\r"], b"~.\r", False),
        ([b"~", b"x"], b"~x", False),
    ],
)
def test_the_way_out_is_at_the_beginning_of_a_line(typed: list[bytes], passed: bytes, left: bool) -> None:
    """`~.` leaves at the beginning of a line only; all other keys are passed on as they are, `~~` as one `~`."""
    keys = Keys()
    assert b"".join(keys.take(part) for part in typed) == passed
    assert keys.left is left
