"""Checks of a commit's tree: names, sizes, number and content of its files.

Trees are given as git stores them. The files of a commit that passes can be written to a disk safely.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import TOML_MOST, check_ceilings, parse_config, toml_too_large
from hive_core.gate.intake.errors import no_commit, too_large
from hive_core.gate.intake.text_check import TextCheck, check_text, is_binary
from hive_core.infra.git.cat_file import ObjectReader, TooLarge
from hive_core.protocol import AgentConfig
from hive_core.settings import LimitCeilings
from hive_core.text import has_invisible, shown

REQUIRED = ("agent.nix", "agent.toml", "prompt.md")
PROMPT_MOST = 100_000
"""The longest prompt.md, in characters."""
NAME_MOST = 255
PATH_MOST = 1_000
DEPTH_MOST = 32

_FILE_MODES = frozenset({b"100644", b"100755"})
_TREE_MODE = b"40000"
_REFUSED_MODES = {
    b"120000": ("a symbolic link", "commit the file itself in its place"),
    b"160000": ("a submodule", "commit the files themselves, or fetch them in agent.nix"),
}
# The names of files that steer git, in the forms that file systems of Windows make of them.
_GIT = re.compile(
    r"\.(?:git(?:attributes|modules)?|lfsconfig|mailmap)"
    r"|(?:git|gitatt|gitmod|gi7d29|gi7eba|lfscon|mailma|maba30)~[0-9]+"
)
_RENAME = "rename it: git mv"


@dataclass(frozen=True)
class CheckedConfig:
    """The settings, the prompt and the paths of all files of a commit that has passed the checks."""

    config: AgentConfig
    prompt: str
    paths: list[str]


@dataclass(frozen=True)
class TreeEntry:
    """An entry of a tree: the mode in octal digits, the name, the object's id."""

    mode: bytes
    name: bytes
    sha: str


class TreeListing:
    """The files of a commit, gathered tree by tree. Raises HiveError `bad_tree` or `too_many_files`.

    `files` gives the object of each path. At most `most` files and as many directories are taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._directories = 0
        self._empty = ""
        self.files: dict[str, str] = {}

    def add(self, at: str, tree: bytes) -> list[tuple[str, str]]:
        """Add the tree of the directory `at` ("" at the top). Returns the paths and trees of the directories in it."""
        directories: list[tuple[str, str]] = []
        if not tree:
            self._empty = self._empty or at
        for entry in entries(tree):
            path = check_name(at, entry.name)
            if entry.mode == _TREE_MODE:
                directories.append((path, entry.sha))
                self._directories += 1
            elif entry.mode in _FILE_MODES:
                self.files[path] = entry.sha
            else:
                raise _refused_mode(path, entry.mode)
            if max(len(self.files), self._directories) > self._most:
                raise too_many_files(self._most)
        return directories

    def check_complete(self) -> None:
        """Raise `bad_tree` if a file that every configuration needs is missing, or a directory has no files."""
        missing = [name for name in REQUIRED if name not in self.files]
        if missing:
            hint = f"the configuration needs {', '.join(REQUIRED)} at its top"
            raise HiveError("bad_tree", f"the commit has no file {' and no file '.join(missing)}", hint=hint)
        if self._empty:
            # The files of a build would not show that it belongs to the commit.
            hint = "commit with git itself, which leaves such directories out"
            raise HiveError("bad_tree", f"the directory {shown(self._empty)} has no files", hint=hint)


def entries(tree: bytes) -> Iterator[TreeEntry]:
    """Yield the entries of a tree as git stores it. Raises `bad_tree` if the tree is damaged."""
    start = 0
    while start < len(tree):
        space = tree.find(b" ", start, start + 8)
        end = tree.find(b"\0", start)
        if not start < space < end or end + 21 > len(tree):
            raise HiveError("bad_tree", "a tree of the commit is damaged", hint="see git fsck")
        yield TreeEntry(tree[start:space], tree[space + 1 : end], tree[end + 1 : end + 21].hex())
        start = end + 21


def check_name(at: str, name: bytes) -> str:
    """Return the path of an entry of the directory `at`. Raises `bad_tree` for a name that is not allowed."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise _bad_name(at, ascii(name[:40]), "is not valid UTF-8") from None
    if len(name) > NAME_MOST:
        raise _bad_name(at, shown(text), f"has {len(name):,} bytes, at most {NAME_MOST} are allowed")
    if why := _fault_of_name(text):
        raise _bad_name(at, shown(text), why)
    path = f"{at}/{text}" if at else text
    if len(path.encode()) > PATH_MOST:
        raise _bad_name(at, shown(text), f"makes a path of more than {PATH_MOST:,} bytes")
    if path.count("/") >= DEPTH_MOST:
        raise _bad_name(at, shown(text), f"lies more than {DEPTH_MOST} directories deep")
    return path


def _fault_of_name(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name:
        return "leads out of its directory"
    if not name.isprintable() or has_invisible(name):
        return "has a control character or one that cannot be seen"
    if name.endswith((".", " ")):
        return "ends in a dot or a space"
    # Names that the file systems of Windows and macOS take for those of git.
    folded = re.split(r"[:\\]", unicodedata.normalize("NFKC", name).casefold())[0].rstrip(". ")
    if _GIT.fullmatch(folded):
        return "is one of git's own, or looks like one"
    return ""


def check_sizes(sizes: Mapping[str, int], most: int) -> None:
    """Raise `too_large` if one file, or all together, have more than `most` bytes."""
    for path, size in sizes.items():
        if size > most:
            raise too_large(f"{shown(path)} has {size:,} bytes, at most {most:,} are allowed")
    total = sum(sizes.values())
    if total > most:
        raise too_large(f"the files have {total:,} bytes together, at most {most:,} are allowed")


def check_files(files: Mapping[str, bytes], binary_files: Sequence[str], most_bytes: int, most_files: int) -> None:
    """Check files that come with a request, by the same rules as those of a commit. Raises the same errors."""
    directories = set()
    for path in files:
        at = ""
        for name in path.split("/"):
            directories.add(at)
            at = check_name(at, name.encode(errors="surrogatepass"))
    if max(len(files), len(directories)) > most_files:
        raise too_many_files(most_files)
    check_sizes({path: len(data) for path, data in files.items()}, most_bytes)
    for path, data in files.items():
        if not is_binary(path, binary_files):
            check_text(path, data)


def parse_prompt(data: bytes) -> str:
    """Return the text of prompt.md. Raises `bad_prompt`."""
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
    """Return the error for a prompt.md of more than PROMPT_MOST characters."""
    hint = "put what is not always needed into files of its own"
    return HiveError("bad_prompt", f"prompt.md has {length}, at most {PROMPT_MOST:,} characters are allowed", hint=hint)


def too_many_files(most: int) -> HiveError:
    """Return the error for a commit with too many files or directories."""
    hint = "keep generated and vendored files out of the configuration"
    return HiveError("too_many_files", f"the commit has more than {most:,} files or directories", hint=hint)


def _refused_mode(path: str, mode: bytes) -> HiveError:
    kind, hint = _REFUSED_MODES.get(mode, (f"of the mode {mode.decode(errors='replace')!a}", "commit it anew"))
    return HiveError("bad_tree", f"{shown(path)} is {kind}: only plain files are taken", hint=hint)


def _bad_name(at: str, name: str, why: str) -> HiveError:
    where = f" in {shown(at)}" if at else ""
    return HiveError("bad_tree", f"the name {name}{where} {why}", hint=_RENAME)


_COMMIT_MOST = 1024 * 1024
"""The largest commit object, in bytes: mostly its message."""
_ENTRY_MOST = 300
"""The largest entry of a tree, in bytes: mode, name, id."""
_CHARACTER_MOST = 4
"""The most bytes of one character in UTF-8."""


@dataclass(frozen=True)
class CommitHead:
    """The tree and the parents of a commit."""

    tree: str
    parents: list[str]


async def read_head(objects: ObjectReader, commit: str) -> CommitHead:
    """Read the tree and the parents of a commit. Raises `bad_commit` or `too_large`."""
    try:
        found = await objects.read(commit, _COMMIT_MOST)
    except TooLarge as error:
        why = f"the commit's own text has {error.args[0]:,} bytes, at most {_COMMIT_MOST:,} are allowed"
        raise HiveError("too_large", why, hint="write a shorter message: git commit --amend") from None
    # The transfer takes the commit that a tag names and leaves the tag itself behind, so it is missing here.
    if found is None or found[0] != "commit":
        raise no_commit(commit, found[0] if found else "tag")
    tree, *lines = [line.split(b" ") for line in found[1].partition(b"\n\n")[0].split(b"\n")]
    # For git, only lines directly below that of the tree are parents; further down they have no meaning.
    parents = takewhile(lambda line: line[0] == b"parent", lines)
    return CommitHead(tree[1].decode(), [line[1].decode() for line in parents])


async def read_checked_config(
    objects: ObjectReader, tree: str, most_bytes: int, most_files: int, ceilings: LimitCeilings
) -> CheckedConfig:
    """Check the tree of a commit, and read its settings and prompt. Raises the errors listed in `docs/gate.md`."""
    listing = TreeListing(most_files)
    waiting = [("", tree)]
    while waiting:
        path, sha = waiting.pop()
        waiting += listing.add(path, await _tree(objects, sha, most_files))
    listing.check_complete()
    headers = await objects.headers(list(listing.files.values()))
    sizes = {path: header.size for path, header in zip(listing.files, headers, strict=True) if header is not None}
    if len(sizes) < len(headers):
        raise HiveError("bad_object", "a file of the commit is missing", hint="see git fsck")
    check_sizes(sizes, most_bytes)
    if sizes["agent.toml"] > TOML_MOST:
        raise toml_too_large(sizes["agent.toml"])
    if sizes["prompt.md"] > _CHARACTER_MOST * PROMPT_MOST:
        raise prompt_too_long(f"{sizes['prompt.md']:,} bytes")
    prompt = parse_prompt(await _blob(objects, listing.files["prompt.md"], sizes["prompt.md"]))
    toml = await _blob(objects, listing.files["agent.toml"], sizes["agent.toml"])
    # In a thread, because a text that was written for that can take long enough to delay other requests.
    config = await asyncio.to_thread(_read_config, toml, ceilings)
    await _check_texts(objects, listing.files, config.binary_files)
    return CheckedConfig(config, prompt, sorted(listing.files))


async def _check_texts(objects: ObjectReader, files: Mapping[str, str], binary_files: Sequence[str]) -> None:
    """Read all files in pieces and check that they are text, but for `binary_files`."""
    texts = [(path, sha) for path, sha in sorted(files.items()) if not is_binary(path, binary_files)]
    check = None
    async for index, piece in objects.pieces([sha for _, sha in texts]):
        check = check or TextCheck(texts[index][0])
        if piece:
            check.feed(piece)
        else:
            check.finish()
            check = None


def _read_config(toml: bytes, ceilings: LimitCeilings) -> AgentConfig:
    check_text("agent.toml", toml)
    config = parse_config(toml)
    check_ceilings(config, ceilings)
    return config


async def _tree(objects: ObjectReader, sha: str, most_files: int) -> bytes:
    try:
        found = await objects.read(sha, 2 * most_files * _ENTRY_MOST)
    except TooLarge:
        raise too_many_files(most_files) from None
    return _content(found, "tree")


async def _blob(objects: ObjectReader, sha: str, size: int) -> bytes:
    return _content(await objects.read(sha, size), "blob")


def _content(found: tuple[str, bytes] | None, kind: str) -> bytes:
    if found is None or found[0] != kind:
        raise HiveError("bad_object", f"a {kind} of the commit is missing or no {kind}", hint="see git fsck")
    return found[1]
