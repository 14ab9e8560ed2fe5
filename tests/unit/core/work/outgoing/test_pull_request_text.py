"""What a pull request says, and what an agent's words in it cannot do."""

from __future__ import annotations

from hive_core.work.outgoing.pull_request_text import body_of, title_of

COMMIT = "1" * 40


def test_a_title_is_one_line_and_no_command() -> None:
    """The title begins with the proposal's name, and has neither newlines nor characters that are not seen."""
    assert title_of("web/3", "WIP: a\nb\x1b[31m\u202e") == "web/3: WIP: a b\\x1b[31m\\u202e"
    assert len(title_of("web/3", "x" * 5_000)) < 220


def test_a_description_stays_in_its_block() -> None:
    """No number of backticks ends the block early, so that mentions, keywords and pictures are only text."""
    hostile = "```\n@all closes #1 ![x](https://evil.example/x.png)\n`````\n<!-- -->"
    lines = body_of("web/3", "ada", COMMIT, hostile).splitlines()
    assert lines[0].startswith("The agent `ada` of a hyperhive has made this change.")
    start = lines.index("``````text")
    assert lines[start + 1 : -1] == hostile.splitlines()
    assert lines[-1] == "``````"


def test_a_long_description_is_cut() -> None:
    """A description has a limit, and says when it was cut; without one only the hive's sentence stays."""
    body = body_of("web/3", "ada", COMMIT, "x" * 50_000)
    assert len(body) < 21_000
    assert body.splitlines()[-2] == "[...]"
    assert "```" not in body_of("web/3", "ada", COMMIT, " \n")
