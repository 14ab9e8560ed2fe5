"""The content that a file may have, and the place of a fault."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.gate.intake.text_check import TextCheck, check_text, is_binary
from hive_core.text import find_escaped

CHARACTERS = st.sampled_from("ab#é👩☀\u200d\ufe0f\u2800\r\n\t\0\x1b\u202e\u20281\u20e3")
texts = st.text(CHARACTERS, max_size=20)


def fault(path: str, pieces: list[bytes]) -> tuple[str, str] | None:
    """The code and the message with which a file is refused, or None."""
    try:
        check = TextCheck(path)
        for piece in pieces:
            check.feed(piece)
        check.finish()
    except HiveError as error:
        assert error.hint and error.message.isprintable()
        return error.code, error.message
    return None


@given(texts.map(str.encode) | st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=6))
@pytest.mark.parametrize("path", ["agent.nix", "notes.txt"])
def test_pieces_do_not_matter(path: str, data: bytes, cuts: list[int]) -> None:
    """A file is judged the same however its bytes arrive."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert fault(path, pieces) == fault(path, [data])


@given(texts)
def test_code_that_is_taken_is_seen(text: str) -> None:
    """Nix code is taken exactly if a reviewer sees each of its characters, apart from CR before LF; joiners never."""
    whole = text.replace("\r\n", "\n")
    seen = find_escaped(whole, 0, len(whole)) is None and "\u200d" not in whole
    assert (fault("agent.nix", [text.encode()]) is None) == seen


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d"])
def test_joiners_belong_into_texts_only(joiner: str) -> None:
    """Joiners, which scripts need between letters, are taken in prompts and other texts, and refused in code."""
    word = f"می{joiner}خواهم\n".encode()
    assert fault("prompt.md", [word]) is None
    assert fault("notes.txt", [word]) is None
    for path, code in (("agent.nix", "bad_text"), ("sub/service.nix", "bad_text"), ("agent.toml", "bad_agent_toml")):
        refused = fault(path, [b"a\n", word])
        assert refused is not None and refused[0] == code
        assert f"line 2: the character U+{ord(joiner):04X} (zero width" in refused[1]


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    """Accepted text can be decoded, and has the same lines for every reader."""
    if fault("notes.txt", [data]) is None:
        text = data.decode().replace("\r\n", "\n") + "end"
        assert text.splitlines() == text.split("\n") and "\0" not in text


def test_lines_are_counted_over_pieces() -> None:
    """The line of a fault counts all pieces before it."""
    assert fault("a.txt", [b"a\n" * 3, "é\n".encode(), b"b\r", b"\n\r\n", b"c\0"]) == (
        "bad_text",
        "'a.txt', line 7: the character U+0000 (NUL), which a reviewer would not see",
    )
    assert fault("a.txt", [b"\n\n\xe2", b"\x82\n"]) == ("bad_text", "'a.txt', line 3: not valid UTF-8")


@pytest.mark.parametrize(
    ("path", "code"), [("agent.toml", "bad_agent_toml"), ("prompt.md", "bad_prompt"), ("a/prompt.md", "bad_text")]
)
def test_codes(path: str, code: str) -> None:
    """The files that have an error code of their own are refused with it."""
    with pytest.raises(HiveError) as refused:
        check_text(path, b"\xff")
    assert refused.value.code == code


def test_what_may_be_binary() -> None:
    """A declared path may hold anything; settings, prompt and Nix code never, whatever a pattern says."""
    patterns = ["assets/*.png", "fonts/**/*.woff", "data", "**/*.md", "**/*.toml", "a.NIX"]
    assert (
        is_binary("assets/a.png", patterns) and is_binary("fonts/a/b/c.woff", patterns) and is_binary("data", patterns)
    )
    assert is_binary("docs/prompt.md", patterns)
    for path in ("assets/a/b.png", "a.png", "data/x", "prompt.md", "agent.toml", "sub/agent.toml", "a.NIX"):
        assert not is_binary(path, patterns)
