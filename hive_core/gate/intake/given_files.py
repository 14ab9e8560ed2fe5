"""The files of a configuration as a person reads and writes them: out of a repository, and into a new commit.

They pass the same checks as the files of a commit that is taken in.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hive_core.errors import HiveError, bad_request, conflict
from hive_core.gate.intake.agent_toml import check_ceilings, parse_config
from hive_core.gate.intake.text_check import check_text
from hive_core.gate.intake.tree_check import REQUIRED, check_files, parse_prompt
from hive_core.infra.git.cat_file import read_batch
from hive_core.infra.git.objects import Person
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AgentConfig
from hive_core.settings import Settings
from hive_core.text import format_bytes, shown

MOST_BYTES = 1_400_000
"""Most bytes of all files together: a request has room for them in Base64."""
MOST_FILES = 2_000
_EXECUTABLE = "100755"


@dataclass(frozen=True)
class GivenFiles:
    """Files that have passed the checks, and the settings in them."""

    files: Mapping[str, bytes]
    executables: Sequence[str]
    config: AgentConfig


def read_given_files(encoded: Mapping[str, str], executables: Sequence[str], settings: Settings) -> GivenFiles:
    """Check files that are given in Base64, by path. Raises the errors that the intake of a commit raises."""
    files = {path: _decoded(path, text) for path, text in encoded.items()}
    if missing := [name for name in REQUIRED if name not in files]:
        hint = f"the configuration needs {', '.join(REQUIRED)} at its top"
        raise HiveError("bad_tree", f"there is no file {' and no file '.join(missing)}", hint=hint)
    if unknown := sorted(set(executables) - files.keys()):
        raise HiveError("bad_tree", f"there is no file {shown(unknown[0])}", hint="name executables among the files")
    check_text("agent.toml", files["agent.toml"])
    config = parse_config(files["agent.toml"])
    check_files(files, config.binary_files, settings.proposal_bytes, settings.proposal_files)
    check_ceilings(config, settings.ceilings)
    parse_prompt(files["prompt.md"])
    return GivenFiles(files, executables, config)


def commit_given_files(
    repository: Repository, given: GivenFiles, base: str, author: Person, when: int, message: str
) -> str:
    """Store a commit of the files on top of `base`, without a ref. Raises `nothing_changed`, `bad_tree`."""
    commit = repository.write_commit(
        given.files,
        parents=[base],
        author=author,
        when=when,
        message=message.rstrip("\n") + "\n",
        executables=given.executables,
    )
    if repository.tree(commit) == repository.tree(base):
        raise conflict("nothing_changed", "these files are what is deployed", "change a file first")
    return commit


def read_files(repository: Repository, commit: str) -> tuple[dict[str, bytes], list[str]]:
    """Return the content of a commit's files, by path, and the paths of those that are programs.

    Raises HiveError `too_large` or `too_many_files` for more than a person's change can have.
    """
    entries = repository.entries(commit, MOST_FILES)
    if (size := sum(entry.size for entry in entries)) > MOST_BYTES:
        raise HiveError(
            "too_large",
            f"the files have {format_bytes(size)} together, and an edit can have {format_bytes(MOST_BYTES)}",
            hint='commit the change in the agent\'s config repository, and use "hive-c0re propose"',
            status=413,
        )
    files = {}
    with read_batch(repository.path, [entry.sha for entry in entries]) as process:
        for entry in entries:
            header = process.header()
            if header is None:
                raise HiveError("repository_damaged", f"the object of {shown(entry.path)} is missing", status=500)
            files[entry.path] = process.read(header, MOST_BYTES)
    return files, [entry.path for entry in entries if entry.mode == _EXECUTABLE]


def _decoded(path: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise bad_request(f"the content of {shown(path)} is not valid Base64", "encode the bytes of the file") from None
