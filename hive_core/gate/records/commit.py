"""Configuration, prompt and diff of a commit in an applied repository."""

from __future__ import annotations

import threading
from collections.abc import Collection

from hive_core.agents.store import ActiveConfig
from hive_core.errors import HiveError
from hive_core.gate.intake.agent_toml import TOML_MOST, parse_config
from hive_core.gate.intake.tree_check import parse_prompt
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.tag_message import ProposalFields
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import FileView, Repository
from hive_core.protocol import AgentConfig

_PROMPT_BYTES = 400_000
_CACHED_CONFIGS = 64
_WHOLE = "(git needs too long to compare these files line by line: each change is shown as one block)\n"
"""The line before a diff of whole blocks."""

# Threads read commits. The id of a commit is a hash of its content, so an entry is never stale.
_configs: dict[str, AgentConfig] = {}
_configs_lock = threading.Lock()


def read_config(repository: Repository, commit: str) -> AgentConfig:
    """Return the settings in a commit's `agent.toml`, from the cache if they were read lately.

    Where the commit names no network, this is the default of today, whatever it was when the commit was made.

    Raises:
        HiveError: `bad_agent_toml`, as from the intake; `bad_tree` if the file is missing.
    """
    with _configs_lock:
        config = _configs.get(commit)
    if config is None:
        config = parse_config(_read(repository, commit, "agent.toml", TOML_MOST))
        with _configs_lock:
            _configs[commit] = config
            if len(_configs) > _CACHED_CONFIGS:
                del _configs[next(iter(_configs))]
    return config.model_copy(deep=True)


def read_prompt(repository: Repository, commit: str) -> str:
    """Return the text of a commit's `prompt.md`.

    Raises:
        HiveError: `bad_prompt`, as from the intake; `bad_tree` if the file is missing.
    """
    return parse_prompt(_read(repository, commit, "prompt.md", _PROMPT_BYTES))


def read_active_config(repository: Repository, row: ProposalRow, older: Collection[str] = ()) -> ActiveConfig:
    """Return the configuration that a deployment of a built proposal makes active. Raises `not_built`.

    `older` are the commits for which the host's network is the default.
    """
    if row.closure is None:
        raise HiveError("not_built", f"{row.agent}/{row.number} was not built", status=409)
    config, prompt = read_config(repository, row.commit), read_prompt(repository, row.commit)
    implied = row.commit in older and not config.names_network
    return ActiveConfig(
        row.number, row.closure, config.with_host_default() if implied else config, prompt, network_implied=implied
    )


def shown_diff(
    repository: Repository, data: ProposalFields, commit: str, limit: int, view: FileView | None = None
) -> ShownDiff:
    """Return the shown part of a proposal's diff, with all changed files or the one of `view`.

    If git needs too long or too much memory to compare the lines, the differing part of each file is shown as removed
    and added, and the first line says so.
    """
    try:
        return repository.diff(data.base, commit, limit, view=view)
    except HiveError as error:
        if error.code not in ("git_slow", "git_failed"):
            raise
    path = None if view is None else view.path
    diff = repository.whole_diff(data.base, commit, max(limit - len(_WHOLE), 0), path=path)
    return ShownDiff(_WHOLE + diff.text, len(_WHOLE) + diff.size, diff.files)


def _read(repository: Repository, commit: str, path: str, limit: int) -> bytes:
    found = repository.read(commit, path, limit)
    if found is None:
        raise HiveError("bad_tree", f"{path} is missing in commit {commit}", hint="every configuration needs it")
    return found
