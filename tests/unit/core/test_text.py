"""Words of others in texts of the hive."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.text import first_line, last_lines, listed, one_line, quoted, visible

anything = st.text(st.characters(exclude_categories=[]), max_size=60)


@given(anything)
def test_visible_text_acts_on_no_terminal(text: str) -> None:
    """What a terminal would act on is escaped; the result can be encoded."""
    shown = visible(text)
    shown.encode()
    assert not [
        character
        for character in shown
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\t\u200c\u200d"
    ]


@pytest.mark.parametrize("text", ["äöü — 日本 👩\u200d💻", "tab\tand\nnewline", ""])
def test_ordinary_text_is_left_alone(text: str) -> None:
    """What people write stays readable as it is."""
    assert visible(text) == text


@given(anything, st.integers(20, 60))
def test_one_line_is_one_short_line(text: str, most: int) -> None:
    """Whatever goes into a line of the hive's own has one line of a known length."""
    line = one_line(text, most)
    assert len(line) <= most and "\n" not in line and "\t" not in line


@given(anything, st.integers(1, 80))
def test_every_quoted_line_is_marked(text: str, most: int) -> None:
    """No line of a quotation stands without its mark, and what is left out is said."""
    lines = quoted(text, most).split("\n")
    told = [line for line in lines if not line.startswith("> ")]
    whole = len(visible(text).strip("\n")) <= most and len(text) <= most
    assert told == ([] if whole else [f"[cut: the whole has {len(text)} characters]"])


def test_a_list_tells_how_many_more() -> None:
    """Lines beyond the first are counted."""
    assert listed(["a\nb", "c", "d"], 2, 20) == "- a b\n- c\n- and 1 more"


def test_first_and_last_lines() -> None:
    """The first line that says something, and the end in whole lines if there are any."""
    assert first_line("\n\n  why?\nno", 20) == "why?"
    assert last_lines("one\ntwo\nthree", 8) == "three"
    assert last_lines("x" * 20, 8) == "x" * 8
    assert last_lines("short", 8) == "short"
