"""Text from agents on the operator's terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.cli.untrusted import one_line, visible

ANY = st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs"]))


@given(ANY)
def test_no_control_is_left(text: str) -> None:
    """Whatever an agent writes, no control character but newline and tab reaches the terminal."""
    shown = visible(text)
    assert [c for c in shown if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"] == []
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029")


@given(ANY)
def test_one_line_is_one_line(text: str) -> None:
    """In a table or a log, an agent's text can never begin a line of its own."""
    assert one_line(text).splitlines() in ([], [one_line(text)])
    assert "\t" not in one_line(text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\n\t")))
def test_plain_text_is_kept(text: str) -> None:
    """Text that a terminal only shows is not changed, newlines included."""
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("\r\x7f\b", r"\x0d\x7f\x08"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("half\udcff", r"half\udcff"),
        ("👩\u200d💻", "👩\u200d💻"),
    ],
)
def test_escapes_are_shown(text: str, shown: str) -> None:
    """Terminal escapes, bidi overrides and invisible characters are seen for what they are."""
    assert visible(text) == shown
