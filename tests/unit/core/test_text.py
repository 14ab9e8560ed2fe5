"""Words of others in texts of the hive."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.text import (
    escape_unprintable,
    escaped_line,
    find_escaped,
    first_line,
    format_bytes,
    has_invisible,
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
    """Text that a person sees is not changed by `visible`, newlines included."""
    assert (visible(text) == text) == (find_escaped(text, 0, len(text)) is None)
    if not has_invisible(text):
        assert visible(text) == text


def test_the_table_has_all_that_is_not_seen() -> None:
    """Every character whose category says that it is a control, formatting or a separator of lines is in the table."""
    missing = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        and chr(code) not in "\n\t"
        and not has_invisible(chr(code))
    ]
    assert missing == []


BLANK = "\u2800\u3164\u115f\uffa0\u034f\u180b\ufe00\ufe0e\ufe0f\U000e0100\u200b\u200c\u200d\ufeff\u00ad\u2060\U0001d159"
blanks = st.text(st.sampled_from(BLANK + "a☀é👩\n"), max_size=12)


@given(blanks | ANY)
def test_what_a_terminal_shows_can_be_seen(text: str) -> None:
    """For a terminal, no invisible character is left but joiners between letters and selectors behind symbols."""
    shown = visible(text)
    for at, character in enumerate(shown):
        if has_invisible(character):
            assert character in "\u200c\u200d\ufe0e\ufe0f"
            assert at > 0 and not (shown[at - 1].isascii() and character in "\u200c\u200d")
    assert len(set(shown) & set("\u2800\u3164\U000e0100")) == 0


@given(blanks | ANY)
def test_readers_of_lines_see_all(text: str) -> None:
    """For a model, a log and an error no invisible character is left at all, and a line stays one line."""
    assert not has_invisible(escape_unprintable(text))
    assert not has_invisible(printable_line(text, 1_000)) and "\n" not in printable_line(text, 1_000)
    assert not has_invisible(escaped_line(text).translate(dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))))


@given(blanks | ANY)
def test_the_escaped_character_is_found(text: str) -> None:
    """The first character that is found is the first that `visible` changes."""
    at, shown = find_escaped(text, 0, len(text)), visible(text)
    differs = next((index for index, (one, other) in enumerate(zip(text, shown, strict=False)) if one != other), None)
    assert at == differs


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
        (
            "❤\ufe0f\u200d🔥 ☀\ufe0f 1\ufe0f\u20e3 \u0645\u06cc\u200c\u062e",
            "❤\ufe0f\u200d🔥 ☀\ufe0f 1\ufe0f\u20e3 \u0645\u06cc\u200c\u062e",
        ),
        ("a\u200db x\ufe0f 1\ufe0f \ufe0f\u20e3", r"a\u200db x\ufe0f 1\ufe0f \ufe0f" + "\u20e3"),
        ("☀\ufe0f\ufe0f é\u200d", "☀\ufe0f" + r"\ufe0f é\u200d"),
        ("approve\u2800\u3164", r"approve\u2800\u3164"),
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
    text = "é\u200dé\u00a0\ue000\\\t\x1b\u202e"
    assert visible(text) == "é\u200dé\u00a0\ue000\\\t\\x1b\\u202e"
    assert escape_unprintable(text) == "é\\u200dé\\xa0\\ue000\\\t\\x1b\\u202e"
    assert quote_log_lines([text]) == ["> é\\u200dé\\xa0\\ue000\\\\t\\x1b\\u202e"]


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
