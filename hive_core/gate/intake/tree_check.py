"""What a configuration may consist of: plain files, few and small, with names that mean one thing everywhere.

Pure: trees come in as git stores them. A commit that passed here can be written to a disk without a second thought.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import parse_config
from hive_core.protocol import AgentConfig
from hive_core.protocol.names import shown

__all__ = ["Candidate", "Listing", "check_sizes", "parse_config", "parse_prompt"]

REQUIRED = ("agent.nix", "agent.toml", "prompt.md")
PROMPT_MOST = 100_000
"""Characters of prompt.md."""
NAME_MOST = 255
PATH_MOST = 1_000
DEPTH_MOST = 32

_FILE_MODES = frozenset({b"100644", b"100755"})
_TREE_MODE = b"40000"
_REFUSED_MODES = {
    b"120000": ("a symbolic link", "commit the file itself in its place"),
    b"160000": ("a submodule", "commit the files themselves, or fetch them in agent.nix"),
}
# Letters and marks that show nothing, beside those that str.isprintable() knows.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_GIT = re.compile(r"\.git|git~[0-9]+")
_RENAME = "rename it: git mv"


@dataclass(frozen=True)
class Candidate:
    """A commit that could be deployed: its settings, its prompt, and the paths of all its files."""

    config: AgentConfig
    prompt: str
    paths: list[str]


@dataclass(frozen=True)
class TreeEntry:
    """One line of a tree: the mode in octal digits, the name, the object's id."""

    mode: bytes
    name: bytes
    sha: str


class Listing:
    """The files of a commit, gathered tree by tree. Raises HiveError `bad_tree` or `too_many_files`.

    `files` gives the object of each path. At most `most` files and as many directories are taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._directories = 0
        self.files: dict[str, str] = {}

    def add(self, at: str, tree: bytes) -> list[tuple[str, str]]:
        """Take in the tree of the directory `at` ("" at the top): the paths and trees of the directories in it."""
        further: list[tuple[str, str]] = []
        for entry in entries(tree):
            path = check_name(at, entry.name)
            if entry.mode == _TREE_MODE:
                further.append((path, entry.sha))
                self._directories += 1
            elif entry.mode in _FILE_MODES:
                self.files[path] = entry.sha
            else:
                raise _refused_mode(path, entry.mode)
            if max(len(self.files), self._directories) > self._most:
                raise too_many_files(self._most)
        return further

    def check_complete(self) -> None:
        """Refuse a commit without the files that make a configuration."""
        absent = [name for name in REQUIRED if name not in self.files]
        if absent:
            hint = f"the configuration needs {', '.join(REQUIRED)} at its top"
            raise HiveError("bad_tree", f"the commit has no file {' and no file '.join(absent)}", hint=hint)


def entries(tree: bytes) -> Iterator[TreeEntry]:
    """The entries of a tree as git stores it. Raises HiveError `bad_tree` if it is not one."""
    start = 0
    while start < len(tree):
        space = tree.find(b" ", start, start + 8)
        end = tree.find(b"\0", start)
        if not start < space < end or end + 21 > len(tree):
            raise HiveError("bad_tree", "a tree of the commit is damaged", hint="see git fsck")
        yield TreeEntry(tree[start:space], tree[space + 1 : end], tree[end + 1 : end + 21].hex())
        start = end + 21


def check_name(at: str, name: bytes) -> str:
    """The path of an entry of the directory `at`. Raises HiveError `bad_tree` unless it is harmless."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise _bad_name(at, ascii(name[:40]), "is not valid UTF-8") from None
    if len(name) > NAME_MOST:
        raise _bad_name(at, shown(text), f"has {len(name):,} bytes, at most {NAME_MOST} are allowed")
    if why := _why_not(text):
        raise _bad_name(at, shown(text), why)
    path = f"{at}/{text}" if at else text
    if len(path.encode()) > PATH_MOST:
        raise _bad_name(at, shown(text), f"makes a path of more than {PATH_MOST:,} bytes")
    if path.count("/") >= DEPTH_MOST:
        raise _bad_name(at, shown(text), f"lies more than {DEPTH_MOST} directories deep")
    return path


def _why_not(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name:
        return "leads out of its directory"
    if not name.isprintable() or _INVISIBLE.search(name):
        return "has a control character or one that cannot be seen"
    if name.endswith((".", " ")):
        return "ends in a dot or a space"
    # What Windows and macOS, and so their users' tools, would take for .git.
    folded = re.split(r"[:\\]", unicodedata.normalize("NFKC", name).casefold())[0].rstrip(". ")
    if _GIT.fullmatch(folded):
        return "is git's own, or looks like it"
    return ""


def check_sizes(sizes: Mapping[str, int], most: int) -> None:
    """Refuse files of more than `most` bytes, each or all together."""
    for path, size in sizes.items():
        if size > most:
            raise too_large(f"{shown(path)} has {size:,} bytes, at most {most:,} are allowed")
    total = sum(sizes.values())
    if total > most:
        raise too_large(f"the files have {total:,} bytes together, at most {most:,} are allowed")


def parse_prompt(data: bytes) -> str:
    """The text of prompt.md. Raises HiveError `bad_prompt`."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise HiveError("bad_prompt", f"prompt.md, line {line}: not valid UTF-8", hint="save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise HiveError("bad_prompt", f"prompt.md, line {line}: a NUL character", hint="remove it")
    if len(text) > PROMPT_MOST:
        raise prompt_too_long(f"{len(text):,} characters")
    return text


def prompt_too_long(length: str) -> HiveError:
    """The refusal of a prompt.md of more than PROMPT_MOST characters."""
    hint = "put what is not always needed into files of its own"
    return HiveError("bad_prompt", f"prompt.md has {length}, at most {PROMPT_MOST:,} characters are allowed", hint=hint)


def too_large(what: str) -> HiveError:
    """The refusal of what takes more bytes than a proposal may."""
    hint = "keep large files out of the configuration, and out of the commits before (git rebase)"
    return HiveError("too_large", what, hint=hint)


def too_many_files(most: int) -> HiveError:
    """The refusal of a tree that is too wide or too deep to be read."""
    hint = "keep generated and vendored files out of the configuration"
    return HiveError("too_many_files", f"the commit has more than {most:,} files or directories", hint=hint)


def _refused_mode(path: str, mode: bytes) -> HiveError:
    kind, hint = _REFUSED_MODES.get(mode, (f"of the mode {mode.decode(errors='replace')!a}", "commit it anew"))
    return HiveError("bad_tree", f"{shown(path)} is {kind}: only plain files are taken", hint=hint)


def _bad_name(at: str, name: str, why: str) -> HiveError:
    where = f" in {shown(at)}" if at else ""
    return HiveError("bad_tree", f"the name {name}{where} {why}", hint=_RENAME)
