"""Words of others in texts of the hive."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.text import (
    escape_unprintable,
    escaped_line,
    first_line,
    format_bytes,
    join_list,
    last_lines,
    one_line,
    printable_line,
    quote,
    quote_log_lines,
    visible,
)

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
    lines = quote(text, most).split("\n")
    told = [line for line in lines if not line.startswith("> ")]
    whole = len(visible(text).strip("\n")) <= most and len(text) <= most
    assert told == ([] if whole else [f"[cut: the whole has {len(text)} characters]"])


def test_a_list_tells_how_many_more() -> None:
    """Lines beyond the first are counted."""
    assert join_list(["a\nb", "c", "d"], 2, 20) == "- a b\n- c\n- and 1 more"


def test_first_and_last_lines() -> None:
    """The first line that says something, and the end in whole lines if there are any."""
    assert first_line("\n\n  why?\nno", 20) == "why?"
    assert last_lines("one\ntwo\nthree", 8) == "three"
    assert last_lines("x" * 20, 8) == "x" * 8
    assert last_lines("short", 8) == "short"


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
    assert escaped_line(text).splitlines() in ([], [escaped_line(text)])
    assert "\t" not in escaped_line(text)


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


@given(ANY)
def test_a_model_sees_what_a_person_sees(text: str) -> None:
    """Nothing unprintable but newlines and tabs reaches a model; in a quoted log line not even these."""
    assert [c for c in escape_unprintable(text) if not c.isprintable() and c not in "\n\t"] == []
    (line,) = quote_log_lines([text])
    assert line.isprintable()


def test_each_reader_has_a_set_of_its_own() -> None:
    """Joiners and rare spaces are kept for a terminal and escaped for a model; a backslash is never doubled."""
    text = "a\u200d\u00a0\ue000\\\t\x1b\u202e"
    assert visible(text) == "a\u200d\u00a0\ue000\\\t\\x1b\\u202e"
    assert escape_unprintable(text) == "a\\u200d\\xa0\\ue000\\\t\\x1b\\u202e"
    assert quote_log_lines([text]) == ["> a\\u200d\\xa0\\ue000\\\\t\\x1b\\u202e"]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (2 * 1024**3, "2.0 GiB"),
        (2048 * 1024**3, "2,048.0 GiB"),
    ],
)
def test_sizes_have_the_largest_fitting_unit(count: int, shown: str) -> None:
    """A size is shown in bytes below 1 KiB, else with one decimal in the largest unit that it reaches."""
    assert format_bytes(count) == shown


@given(ANY, st.integers(1, 50))
def test_a_printable_line_is_one_short_line(text: str, most: int) -> None:
    """A line for a model has only printable characters, and not many more than it may have."""
    line = printable_line(text, most)
    assert line.isprintable() and len(line) <= most + len(" [...]")
    assert (line == text) == (text.isprintable() and len(text) <= most)


def test_a_printable_line_shows_escapes() -> None:
    """Every character that a person would not see is escaped, and a cut is marked."""
    assert printable_line("a\x1b\n\t\u202e\xa0\u200db", 100) == "a\\x1b\\n\\t\\u202e\\xa0\\u200db"
    assert printable_line("x" * 301, 300) == "x" * 300 + " [...]"
