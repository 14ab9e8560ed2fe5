"""Tags: what goes in comes out, and no name or message makes an object that git complains about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.errors import HiveError
from hive_core.infra.git.objects import Person, Tag, parse_tag, tag_bytes
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import Plain, plant, tag

SHA = "1" * 40
HOSTILE = [
    Person("", ""),
    Person("eve <root@hive> 0 +0000\ntagger mallory", "a@b>\n\ntype tree"),
    Person("<>", "<>"),
    Person(" .,:;\"'\\ ", " a b "),
    Person("nul\0in\x1b[31mred\u202e", "\0"),
    Person("x" * 5_000, "y" * 5_000),
    Person("\udcff\udc80", "\udcff"),
    Person("Zoë 🐝", "zoë@hive"),
]


@pytest.mark.parametrize("person", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_makes_a_malformed_object(repository: Repository, commit: str, plain: Plain, person: Person) -> None:
    """Whatever the tagger and the author are called, `git fsck --strict` finds nothing, and one header line each."""
    plant(repository, tag("built/1", commit, tagger=person))
    other = repository.write_commit({"a": b"1"}, parents=[commit], author=person, when=5, message="m")
    repository.update([RefChange("refs/heads/other", other)])
    assert plain("fsck", "--strict", "--full", "--no-dangling") == ""
    assert plain("cat-file", "tag", "refs/tags/built/1").count("\ntagger ") == 1
    assert [found.name for found in repository.read_tags()] == ["built/1"]


@pytest.mark.parametrize(
    "message", ["", "\n\n", "nul\0 esc\x1b[2J bell\a", "\udcff", "\n".join(["line"] * 9), "é 🐝\tx"]
)
def test_any_message_is_stored_whole_and_clean(repository: Repository, commit: str, plain: Plain, message: str) -> None:
    """What cannot be printed is replaced, the rest is kept, and fsck is content."""
    plant(repository, tag("failed/1", commit, message))
    assert plain("fsck", "--strict", "--full", "--no-dangling") == ""
    (found,) = repository.read_tags(["failed/1"])
    assert not any(ord(char) < 32 and char not in "\n\t" for char in found.message)
    printable = message.replace("\0", "\ufffd").replace("\x1b", "\ufffd").replace("\a", "\ufffd")
    assert found.message == printable.replace("\udcff", "?").rstrip("\n")


@given(message=st.text(), name=st.text(max_size=300), email=st.text(max_size=50), when=st.integers(-5, 2**40))
def test_what_is_read_is_what_was_written(message: str, name: str, email: str, when: int) -> None:
    """A tag survives being written and read, and a second time it is the same to the letter."""
    content = tag_bytes(Tag("built/1", SHA, Person(name, email), when, message))
    first = parse_tag("built/1", SHA, content)
    assert first is not None and (first.target, first.when) == (SHA, max(when, 0))
    assert parse_tag("built/1", SHA, tag_bytes(first)) == first


def test_a_message_cannot_pass_for_a_header(repository: Repository, commit: str) -> None:
    """A message that looks like a tag's head stays a message."""
    message = f"object {SHA}\ntype commit\ntag deployed/9\n\nx"
    plant(repository, tag("denied/1", commit, message))
    (found,) = repository.read_tags()
    assert (found.target, found.message) == (commit, message)


@pytest.mark.parametrize("name", ["", "a..b", "a.lock", "/a", "a/", "a b", "-x", "a\nb", "a/../../b", "ä", "x" * 300])
def test_odd_names_of_tags_are_refused(repository: Repository, commit: str, name: str) -> None:
    """A tag's name is plain characters and slashes, so that nothing but a file below refs/tags can come of it."""
    with pytest.raises(HiveError) as refused:
        repository.write_tag(tag(name, commit))
    assert refused.value.code == "bad_ref"


@pytest.mark.parametrize("target", ["", "main", "1234567", "A" * 40, "1" * 41, SHA + "\n"])
def test_a_target_is_a_whole_sha(repository: Repository, target: str) -> None:
    """Neither a branch nor a short sha is taken for a commit."""
    with pytest.raises(HiveError) as refused:
        repository.write_tag(tag("built/1", target))
    assert refused.value.code == "bad_commit"


def test_a_tag_has_a_largest_size(repository: Repository, commit: str) -> None:
    """A text of more than 4 MiB is refused before anything is written."""
    with pytest.raises(HiveError) as refused:
        repository.write_tag(tag("built/1", commit, "x" * (4 * 1024 * 1024)))
    assert refused.value.code == "tag_too_large"


def test_tags_are_read_in_the_order_asked_for(repository: Repository, commit: str, plain: Plain) -> None:
    """Names that are not there are left out; so are tags without a text; None is all by name."""
    shas = plant(repository, tag("built/2", commit, "two"), tag("built/1", commit, "one"))
    plain("tag", "light", commit)
    asked = repository.read_tags(["built/2", "gone/1", "light", "built/1"])
    assert [(found.name, found.message, found.sha) for found in asked] == [
        ("built/2", "two", shas[0]),
        ("built/1", "one", shas[1]),
    ]
    assert [found.name for found in repository.read_tags()] == ["built/1", "built/2"]


def test_a_tag_object_under_another_name_is_told(repository: Repository, commit: str) -> None:
    """A ref that somebody pointed at another proposal's tag is damage, not a tag."""
    (sha,) = plant(repository, tag("built/1", commit))
    repository.update([RefChange("refs/tags/approved/1", sha)])
    with pytest.raises(HiveError, match="built/1") as refused:
        repository.read_tags(["approved/1"])
    assert refused.value.code == "repository_damaged"


def test_plain_git_shows_the_story(repository: Repository, commit: str, plain: Plain) -> None:
    """`git show` of a tag gives who, when and why as text."""
    plant(repository, tag("denied/4", commit, "Denied by hm1nd: too much memory\n\nAsk for less.\n"))
    shown = plain("show", "--no-patch", "denied/4")
    assert "Tagger: ada <ada@hive>" in shown
    assert "Denied by hm1nd: too much memory\n\nAsk for less.\n" in shown


def test_a_stored_object_counts_as_new_again(repository: Repository, commit: str) -> None:
    """Writing what is there already keeps a clean-up from taking it for old; a file without content is replaced."""
    sha = repository.write_tag(tag("built/1", commit))
    path: Path = repository.path / "objects" / sha[:2] / sha[2:]
    os.utime(path, (0, 0))
    assert repository.write_tag(tag("built/1", commit)) == sha
    assert path.stat().st_mtime > 1_000_000_000
    path.chmod(0o600)
    path.write_bytes(b"")
    assert repository.write_tag(tag("built/1", commit)) == sha
    assert path.stat().st_size > 0
    assert list((repository.path / "objects").glob("tmp_obj_*")) == []
