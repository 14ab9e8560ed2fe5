"""Reading a commit out of quarantine and holding it against the rules of `hive_core.gate.intake.tree_check`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import takewhile

from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import TOML_MOST, parse_config, toml_too_large
from hive_core.gate.intake.errors import no_commit
from hive_core.gate.intake.tree_check import (
    PROMPT_MOST,
    Candidate,
    Listing,
    check_sizes,
    parse_prompt,
    prompt_too_long,
    too_many_files,
)
from hive_core.gate.intake_ceilings import check_file
from hive_core.git.objects import Objects, TooLarge
from hive_core.protocol import AgentConfig
from hive_core.settings import Bounds

_COMMIT_MOST = 1024 * 1024
"""Bytes of a commit: its message, mostly."""
_ENTRY_MOST = 300
"""Bytes of one entry of a tree: mode, name, id."""
_CHARACTER_MOST = 4
"""Bytes of one character in UTF-8."""


@dataclass(frozen=True)
class CommitHead:
    """What a commit says before its message."""

    tree: str
    parents: list[str]


async def read_head(objects: Objects, commit: str) -> CommitHead:
    """The tree and the parents of a commit. Raises HiveError `bad_commit`."""
    try:
        found = await objects.read(commit, _COMMIT_MOST)
    except TooLarge as error:
        why = f"the commit's own text has {error.args[0]:,} bytes, at most {_COMMIT_MOST:,} are allowed"
        raise HiveError("too_large", why, hint="write a shorter message: git commit --amend") from None
    # Reading peels a tag; the tag itself stays behind.
    if found is None or found[0] != "commit":
        raise no_commit(commit, found[0] if found else "tag")
    tree, *lines = [line.split(b" ") for line in found[1].partition(b"\n\n")[0].split(b"\n")]
    # Only what stands right below the tree is a parent to git; further down it would be a header without meaning.
    parents = takewhile(lambda line: line[0] == b"parent", lines)
    return CommitHead(tree[1].decode(), [line[1].decode() for line in parents])


async def read_candidate(objects: Objects, tree: str, most_bytes: int, most_files: int, ceilings: Bounds) -> Candidate:
    """Check the tree of a commit and read what the hive needs of it. Raises HiveError, see `docs/gate.md`."""
    listing = Listing(most_files)
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
    # Not long, but long enough to keep others waiting if it was written for that.
    config = await asyncio.to_thread(_read_config, toml, ceilings)
    return Candidate(config, prompt, sorted(listing.files))


def _read_config(toml: bytes, ceilings: Bounds) -> AgentConfig:
    config = parse_config(toml)
    check_file(toml, config, ceilings)
    return config


async def _tree(objects: Objects, sha: str, most_files: int) -> bytes:
    try:
        found = await objects.read(sha, 2 * most_files * _ENTRY_MOST)
    except TooLarge:
        raise too_many_files(most_files) from None
    return _content(found, "tree")


async def _blob(objects: Objects, sha: str, size: int) -> bytes:
    return _content(await objects.read(sha, size), "blob")


def _content(found: tuple[str, bytes] | None, kind: str) -> bytes:
    if found is None or found[0] != kind:
        raise HiveError("bad_object", f"a {kind} of the commit is missing or no {kind}", hint="see git fsck")
    return found[1]
