"""Git's failures as error messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.gate.intake.errors import refusal
from hive_core.infra.git.quarantine import GitEnd

COMMIT = "c" * 40
SOURCE = Path("/hive/ada/.git")


@pytest.mark.parametrize("indexing", [False, True], ids=["pack-objects", "index-pack"])
def test_words_of_git_are_one_printable_line(indexing: bool) -> None:
    """Names that an agent chose cannot act on a terminal or hide from a model, and do not fill the message."""
    failed = GitEnd(128, "warning: first\nfatal: \x1b[2Jname\u202e\u200d " + "x" * 1_000 + "\n")
    ends = (GitEnd(0, ""), failed) if indexing else (failed, GitEnd(0, ""))
    error = refusal(*ends, COMMIT, 1_000, SOURCE)
    assert error is not None and error.code == "bad_object"
    assert "fatal: \\x1b[2Jname\\u202e\\u200d xx" in error.message
    assert error.message.isprintable() and error.message.endswith(" [...]") and len(error.message) < 400


def test_a_fault_that_fsck_names() -> None:
    """The object, the fault and its code are told; what an agent wrote into it is escaped."""
    output = f"error: object {COMMIT}: badEmail: invalid\tauthor \x9b1m\n"
    error = refusal(GitEnd(0, ""), GitEnd(1, output), COMMIT, 1_000, SOURCE)
    assert error is not None
    assert error.message == f"git fsck refuses the object {COMMIT}: invalid\\tauthor \\x9b1m (badEmail)"
