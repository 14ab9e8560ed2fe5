"""What the tests of the git layer share: a person, some files, and tags."""

from __future__ import annotations

from collections.abc import Callable

from hive_core.infra.git.objects import Person, Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository

PERSON = Person("ada", "ada@hive")
FILES = {"agent.nix": b"{ }\n", "agent.toml": b'backend = "scripted"\n', "lib/deep/x.nix": b"1\n", "lib.nix": b"2\n"}

Plain = Callable[..., str]
"""Runs plain git and gives what it prints."""


def tag(name: str, commit: str, message: str = "why\n", tagger: Person = PERSON) -> Tag:
    """A tag on a commit."""
    return Tag(name, commit, tagger, 1_700_000_100, message)


def plant(repository: Repository, *tags: Tag) -> list[str]:
    """Write tags and the refs that hold them; their shas."""
    shas = [repository.write_tag(each) for each in tags]
    repository.update([RefChange(f"refs/tags/{each.name}", sha) for each, sha in zip(tags, shas, strict=True)])
    return shas
