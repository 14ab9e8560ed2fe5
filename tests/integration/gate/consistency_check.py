"""What must hold of a hive in which nothing is open, seen from outside: plain git, plain SQLite, the processes.

None of the hive's own code reads anything here but the audit chain's check.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil

from hive_core.infra.database import audit
from tests.helpers.git_repos import git
from tests.helpers.real_daemon import Daemon, Json

TERMINAL = frozenset({"deployed", "failed", "denied", "withdrawn"})
_FORMAT = "%(refname:lstrip=2) %(objecttype) %(objectname) %(*objectname) %(*tree) "
_FORMAT += "%(contents:trailers:key=Kind,valueonly,separator=)"
# In a call of its own: git prints the trailer of the first key twice.
_PRUNED = "%(refname:lstrip=2)=%(contents:trailers:key=Pruned,valueonly,separator=)"


@dataclass(frozen=True)
class Tag:
    """One annotated tag, as git lists it. `commit` is the one that it names if the proposal's files were removed."""

    word: str
    number: int
    sha: str
    commit: str
    tree: str
    kind: str


def tags(repository: Path) -> list[Tag]:
    """All tags of a repository, by name; every one must be annotated."""
    found = []
    pruned = dict(
        line.split("=") for line in git(repository, "for-each-ref", f"--format={_PRUNED}", "refs/tags").splitlines()
    )
    for line in git(repository, "for-each-ref", f"--format={_FORMAT}", "refs/tags").splitlines():
        name, object_type, sha, commit, tree, kind = line.split(" ")
        assert object_type == "tag", f"{name} is a {object_type}"
        word, _, number = name.partition("/")
        found.append(Tag(word, int(number), sha, pruned[name] or commit, tree, kind))
    return found


def newest_deployed(found: Iterable[Tag]) -> Tag | None:
    """What is deployed: the end of an agent deploys nothing."""
    deployed = [tag for tag in found if tag.word == "deployed" and tag.kind != "destroy"]
    return max(deployed, key=lambda tag: tag.number, default=None)


ActiveCheck = Callable[[Daemon, Json, Tag | None], Iterator[str]]
"""What is wrong with what an agent runs, given its status and its newest deployment."""


async def problems(daemon: Daemon, in_force: ActiveCheck | None = None) -> list[str]:
    """All broken promises, in words. `in_force` looks at what runs; it defaults to the local runtime's."""
    agents = await daemon.agents()
    applied = daemon.state_dir / "applied"
    repositories = {path.name.removesuffix(".git"): tags(path) for path in sorted(applied.glob("*.git"))}
    found = [*_chain(daemon), *_audited(daemon, repositories)]
    for agent, of_agent in repositories.items():
        main = git(applied / f"{agent}.git", "for-each-ref", "--format=%(objectname)", "refs/heads")
        checks = [_ends(of_agent), _main(of_agent, main), _index(daemon, agent, of_agent)]
        if agent in agents:
            checks.append((in_force or _in_force)(daemon, agents[agent], newest_deployed(of_agent)))
        found += [f"{agent}: {problem}" for check in checks for problem in check]
    found += [f"{agent}: it has no repository" for agent in agents if agent not in repositories]
    for (agent,) in daemon.sql("SELECT DISTINCT agent FROM proposals"):
        if agent not in repositories:
            found.append(f"{agent}: the index knows proposals of it, and it has no repository")
    verification = await daemon.ask("GET", "/v1/audit/verify")
    return [*found, *verification["problems"]]


def _ends(found: list[Tag]) -> Iterator[str]:
    words: defaultdict[int, set[str]] = defaultdict(set)
    commits: defaultdict[int, set[str]] = defaultdict(set)
    for tag in found:
        words[tag.number].add(tag.word)
        commits[tag.number].add(tag.commit)
    for number, have in words.items():
        if len(have & TERMINAL) != 1:
            yield f"proposal {number} has the tags {sorted(have)}"
        if "proposal" not in have or ("deployed" in have and "approved" not in have):
            yield f"proposal {number} has skipped a state: {sorted(have)}"
        if len(commits[number]) != 1:
            yield f"the tags of proposal {number} are on different commits"
    if sorted(words) != list(range(len(words))):
        yield f"there are gaps between the numbers {sorted(words)}"


def _main(found: list[Tag], main: str) -> Iterator[str]:
    newest = newest_deployed(found)
    if main != ("" if newest is None else newest.commit):
        yield f"main is at {main!r}, the newest deployment is {newest}"


def _index(daemon: Daemon, agent: str, found: list[Tag]) -> Iterator[str]:
    rows = daemon.sql("SELECT number, state, sha, kind FROM proposals WHERE agent = ? ORDER BY number", agent)
    told = sorted((tag.number, tag.word, tag.commit, tag.kind) for tag in found if tag.word in TERMINAL)
    if rows != told:
        yield f"the index says {rows}, the tags {told}"


def _chain(daemon: Daemon) -> Iterator[str]:
    with closing(sqlite3.connect(daemon.database)) as connection:
        broken = audit.first_broken_row(connection)
    if broken is not None:
        yield f"the audit chain is broken at row {broken}"


def _audited(daemon: Daemon, repositories: Mapping[str, list[Tag]]) -> Iterator[str]:
    """Each tag there is has exactly one row, and no row tells of a tag that is not there; purges end both."""
    rows: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    query = "SELECT action, subject, detail FROM audit WHERE outcome = 'ok' ORDER BY id"
    for action, subject, detail in daemon.sql(query):
        if action == "destroy" and json.loads(detail)["purge"]:
            rows.pop(subject, None)
        elif action.startswith("gate."):
            told = json.loads(detail)
            if action == "gate.pruned":  # It replaces a tag that is there.
                (replaced,) = [row for row in rows[subject] if row[0] == told["tag"]]
                del rows[subject][replaced]
            rows[subject][told["tag"], told["object"]] += 1
    for agent in rows.keys() | repositories.keys():
        here = Counter((f"{tag.word}/{tag.number}", tag.sha) for tag in repositories.get(agent, []))
        if rows[agent] != here:
            yield f"{agent}: audited and not there {rows[agent] - here}, there and not audited {here - rows[agent]}"


def _in_force(daemon: Daemon, status: Json, newest: Tag | None) -> Iterator[str]:
    """What the database says, what the harness was started with, and what lies in the closure: all the approved."""
    if newest is None:
        yield "there is an agent, and no deployment of it"
        return
    name = f"{status['name']}/{newest.tree}"
    closure = daemon.state_dir / "closures" / name
    expected = (newest.number, name)
    rows = daemon.sql("SELECT deployment, closure FROM agents WHERE name = ?", status["name"])
    if rows != [expected] or status["deployment"] != newest.number:
        yield f"in force is {rows} ({status['deployment']}), deployed is {expected}"
    if not closure.is_dir():
        yield f"{closure} is gone"
    if status["lifecycle"] == "running":
        environment = psutil.Process(status["pid"]).environ()
        runs = (int(environment["HIVE_AGENT_DEPLOYMENT"]), environment["HIVE_AGENT_DEPLOYED"])
        if runs != (newest.number, str(closure)):
            yield f"its harness runs {runs}, deployed is {expected}"
