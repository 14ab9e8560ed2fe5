"""Reasons of failed transfers."""

from __future__ import annotations

import pytest

from hive_core.work.repositories.upstream.failures import explain


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "upstream_refused"),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.", "upstream_refused"),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "host_key_changed"),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", "upstream_unreachable"),
        ("fatal: unable to access 'https://x/': SSL certificate problem: self-signed", "upstream_unreachable"),
        ("remote: Repository not found.\nfatal: repository 'https://x/' not found", "upstream_missing"),
        (" ! [rejected] a -> b (non-fast-forward)", "upstream_moved"),
        (" ! [remote rejected] a -> b (pre-receive hook declined)", "push_refused"),
        ("fatal: something else", "transfer_failed"),
    ],
)
def test_reasons(output: str, code: str) -> None:
    """What git and ssh say is told apart by what the operator can do."""
    assert explain(128, output, file_bytes=1024**3, room=True).code == code


def test_words_of_a_server_are_one_printable_line() -> None:
    """A server's words are quoted without control characters, and cut."""
    said = explain(128, "remote: \x1b[2J\u202e" + "x" * 10_000, file_bytes=1, room=True)
    assert "\x1b" not in said.message and "\u202e" not in said.message and len(said.message) < 500


def test_a_full_disk_is_told_from_a_large_upstream() -> None:
    """The limit of a file's size is the upstream's fault only if the disk has room."""
    text = "fatal: write error: No space left on device"
    assert explain(128, text, file_bytes=1, room=False).code == "disk_full"
    assert explain(128, text, file_bytes=1, room=True).code == "upstream_too_large"
