"""Repositories that hostile agents write: refused in clear words, nothing runs, nothing is read or left outside."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from hive_core.errors import HiveError
from hive_core.gate.intake import source_check
from hive_core.gate.intake.import_commit import CommitImporter, IntakeLimits
from hive_core.infra.git.repository import Repository
from hive_core.text import escape_unprintable, has_invisible
from tests.helpers.git_repos import AgentRepositories, git
from tests.helpers.own_children import OwnChildren
from tests.integration.gate.conftest import LIMITS
from tests.integration.gate.hostile_commits import CASES, TAKEN_CONTENTS, Case, Content

QUICK = IntakeLimits(LIMITS.bytes, LIMITS.files, seconds=2.0)
MOST_GROWTH = 16 * 1024
"""KiB by which the memory may grow at its highest. One file of 2 GiB is offered, and one of 10 MiB."""


def objects(repository: Path) -> list[str]:
    """Every file in a repository's object directory."""
    return sorted(str(path.relative_to(repository)) for path in (repository / "objects").rglob("*") if path.is_file())


def left(repositories: AgentRepositories) -> list[str]:
    """What lies in the scratch directory beside the empty repository that all intakes share."""
    return [str(path) for path in repositories.scratch.iterdir() if not (path / "HEAD").exists()]


def descriptors() -> list[str]:
    """What this process has open."""
    return sorted(str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())


_of_this_test: list[OwnChildren] = []


@pytest.fixture(autouse=True)
def children() -> Iterator[None]:
    """The processes of each test, which `running` tells."""
    _of_this_test.append(OwnChildren())
    yield
    _of_this_test.clear()


def running() -> list[str]:
    """What the test has running; not what has ended and is about to be reaped by a parent that ends too."""
    (own,) = _of_this_test
    found = []
    for child in own.alive():
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(child.cmdline()))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_refused(repos: AgentRepositories, confine: str | None, case: Case) -> None:
    """Each hostile repository is refused with its code and words; nothing has run, arrived, or stayed behind."""
    commit = case.make(repos)
    before, base = objects(repos.applied), repos.base
    limits = QUICK if case.code == "intake_slow" else LIMITS
    with pytest.raises(HiveError) as refused:
        await CommitImporter(confine, repos.scratch, limits).import_commit(repos.config, repos.applied, commit, base)
    assert refused.value.code == case.code, refused.value
    assert case.words in refused.value.message
    assert refused.value.message.isprintable() and len(refused.value.message) < 1_000
    assert refused.value.hint and 400 <= refused.value.status < 500
    assert str(repos.home) not in refused.value.message
    assert objects(repos.applied) == before
    assert left(repos) == [] and running() == [] and not repos.marker.exists()


@pytest.mark.parametrize("content", TAKEN_CONTENTS, ids=lambda content: content.name)
async def test_taken_and_shown(repos: AgentRepositories, importer: CommitImporter, content: Content) -> None:
    """Unusual but honest content is taken as it is, and its diff shows it without anything that cannot be seen."""
    commit = content.make(repos)
    await importer.import_commit(repos.config, repos.applied, commit, repos.base)
    with Repository(repos.applied) as repository:
        assert {path: repository.read(commit, path, len(data)) for path, data in content.files.items()} == content.files
        diff = repository.diff(repos.base, commit, 16 * 1024 * 1024)
    assert not has_invisible(escape_unprintable(diff.text))
    hidden = {file.path: file.hidden for file in diff.files}
    assert hidden == hidden | {path: not is_text(data) for path, data in content.files.items()}


def is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


async def test_good_commit(repos: AgentRepositories, importer: CommitImporter) -> None:
    """A good commit is read as it is, and its objects are in the applied repository for good, under no ref."""
    toml = 'backend = "scripted"\ntasks_max = 64\n'
    commit = repos.commit({"agent.toml": toml, "prompt.md": "Be änother.\n", "module.nix": "{ }\n"})
    refs = git(repos.applied, "for-each-ref")
    found = await importer.import_commit(repos.config, repos.applied, commit, repos.base)
    assert found.paths == ["agent.nix", "agent.toml", "module.nix", "prompt.md"]
    assert found.prompt == "Be änother.\n" and found.config.tasks_max == 64
    assert git(repos.applied, "show", f"{commit}:prompt.md") == "Be änother."
    assert git(repos.applied, "fsck", "--strict", "--no-dangling") == "" and git(repos.applied, "for-each-ref") == refs
    assert left(repos) == [] and running() == []


async def test_first_commit(repos: AgentRepositories, importer: CommitImporter) -> None:
    """Without a base any history is taken, and all of it arrives."""
    empty = repos.home / "empty.git"
    git(repos.home, "init", "-q", "--bare", str(empty))
    commit = repos.commit({"prompt.md": "second\n"})
    await importer.import_commit(repos.config, empty, commit, None)
    assert git(empty, "rev-list", "--count", commit) == "2"


async def test_again_and_what_is_deployed(repos: AgentRepositories, importer: CommitImporter) -> None:
    """The same commit can be taken again, and so can the one that is deployed, of which nothing is new."""
    commit = repos.commit({"prompt.md": "second\n"})
    for each in (commit, commit, repos.base):
        await importer.import_commit(repos.config, repos.applied, each, repos.base)
    assert git(repos.applied, "fsck", "--strict", "--no-dangling") == ""


async def test_several_commits_and_a_merge(repos: AgentRepositories, importer: CommitImporter) -> None:
    """A commit need not follow the base directly."""
    git(repos.config, "checkout", "-q", "-b", "side")
    repos.commit({"module.nix": "{ }\n"})
    git(repos.config, "checkout", "-q", "main")
    repos.commit({"prompt.md": "second\n"})
    git(repos.config, "merge", "-q", "-m", "merged", "side")
    commit = git(repos.config, "rev-parse", "HEAD")
    await importer.import_commit(repos.config, repos.applied, commit, repos.base)
    assert git(repos.applied, "rev-list", "--count", f"{repos.base}..{commit}") == "3"


async def test_packed_and_shallow(repos: AgentRepositories, importer: CommitImporter) -> None:
    """Packed repositories are taken like others, and those that lack what is deployed already."""
    commit = repos.commit({"prompt.md": "second\n"})
    git(repos.config, "repack", "-a", "-d", "-q")
    git(repos.home, "clone", "-q", "--depth", "1", f"file://{repos.config}", "shallow")
    await importer.import_commit(repos.home / "shallow", repos.applied, commit, repos.base)
    assert git(repos.applied, "rev-list", "--count", commit) == "2"


def write_hostile_settings(repositories: AgentRepositories) -> None:
    """Everything in a repository that makes git run a command or look elsewhere."""
    run = f"touch {repositories.marker}"
    included = repositories.config / "included"
    included.write_text(f'[core]\n\tfsmonitor = "{run}"\n')
    dot_git = repositories.config / ".git"
    with (dot_git / "config").open("a") as config:
        config.write(
            f'[core]\n\tfsmonitor = "{run}"\n\tsshCommand = "{run}"\n\tpager = "{run}"\n\thooksPath = hooks\n'
            f'\tgitProxy = "{run}"\n\talternateRefsCommand = "{run}"\n\tworktree = /\n'
            f'[include]\n\tpath = {included}\n[includeIf "gitdir:/"]\n\tpath = {included}\n'
            f'[alias]\n\tpack-objects = "!{run}"\n[uploadpack]\n\tpackObjectsHook = "{run}"\n'
            f'[filter "x"]\n\tclean = "{run}"\n\tsmudge = "{run}"\n\tprocess = "{run}"\n'
            f'[remote "origin"]\n\turl = "ext::{run}"\n\tpromisor = true\n[extensions]\n\tpartialClone = origin\n'
        )
    (dot_git / "hooks").mkdir(exist_ok=True)
    for hook in ("pre-commit", "post-checkout", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc", "update"):
        (dot_git / "hooks" / hook).write_text(f"#!/bin/sh\n{run}\n")
        (dot_git / "hooks" / hook).chmod(0o755)


async def test_settings_and_hooks_are_not_read(repos: AgentRepositories, importer: CommitImporter) -> None:
    """fsmonitor, sshCommand, hooks, include.path, filters, promisors: none runs, and the commit is taken as it is."""
    commit = repos.commit({"prompt.md": "second\n"})
    missing = "1" * 40
    write_hostile_settings(repos)
    for attributes in (repos.config / ".gitattributes", repos.config / ".git" / "info" / "attributes"):
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("* filter=x export-subst\n")
    assert (await importer.import_commit(repos.config, repos.applied, commit, repos.base)).prompt == "second\n"
    with pytest.raises(HiveError, match="no commit"):
        await importer.import_commit(repos.config, repos.applied, missing, repos.base)
    assert not repos.marker.exists()


async def test_replaced_and_grafted_commits_are_what_they_were(
    repos: AgentRepositories, importer: CommitImporter
) -> None:
    """Replace refs and grafts change nothing: a sha means its own content and its own parents."""
    commit, unrelated = (
        repos.commit({"prompt.md": "second\n"}),
        git(repos.config, "commit-tree", "-m", "x", "HEAD^{tree}"),
    )
    other = repos.commit({"prompt.md": "third\n"})
    git(repos.config, "replace", commit, other)
    (repos.config / ".git" / "info").mkdir(exist_ok=True)
    (repos.config / ".git" / "info" / "grafts").write_text(f"{unrelated} {repos.base}\n")
    assert (await importer.import_commit(repos.config, repos.applied, commit, repos.base)).prompt == "second\n"
    with pytest.raises(HiveError) as refused:
        await importer.import_commit(repos.config, repos.applied, unrelated, repos.base)
    assert refused.value.code == "not_rebased"
    assert refused.value.hint == 'git fetch "$HIVE_AGENT_APPLIED/ada.git" main && git rebase FETCH_HEAD'


@contextmanager
def changing(path: Path, texts: list[str]) -> Iterator[None]:
    """Write a file over and over, in another thread."""
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            for text in texts:
                path.write_text(text)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_head_that_changes_meanwhile(repos: AgentRepositories, importer: CommitImporter) -> None:
    """Only the sha counts: HEAD and branches may change while the repository is read."""
    commit = repos.commit({"prompt.md": "second\n"})
    other = repos.commit({"prompt.md": "third\n"})
    with changing(repos.config / ".git" / "HEAD", [f"{other}\n", "ref: refs/heads/none\n", "garbage", f"{commit}\n"]):
        for _ in range(5):
            assert (await importer.import_commit(repos.config, repos.applied, commit, repos.base)).prompt == "second\n"


@pytest.mark.parametrize("way", ["alternates", "link"])
async def test_what_changes_after_the_first_look_stays_in_the_sandbox(
    repos: AgentRepositories, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Objects outside of the repository cannot be reached, even if the way to them is laid after the first look."""
    commit = repos.commit({"prompt.md": "secret\n"})
    hidden = repos.outside / "objects"
    look = source_check.check

    def then_change(config: Path) -> None:
        look(config)
        repos.objects.rename(hidden)
        if way == "link":
            repos.objects.symlink_to(hidden)
        else:
            (repos.objects / "info").mkdir(parents=True)
            (repos.objects / "info" / "alternates").write_text(f"{hidden}\n")

    monkeypatch.setattr(source_check, "check", then_change)
    with pytest.raises(HiveError) as refused:
        await CommitImporter("bwrap", repos.scratch, LIMITS).import_commit(
            repos.config, repos.applied, commit, repos.base
        )
    assert refused.value.code == "bad_object"


async def test_cancelled(repos: AgentRepositories, importer: CommitImporter) -> None:
    """A caller that goes away leaves no process, no file and no descriptor."""
    good = repos.commit({"prompt.md": "second\n"})
    await importer.import_commit(repos.config, repos.applied, good, repos.base)
    stuck = next(case for case in CASES if case.name == "FIFO for a commit").make(repos)
    gc.collect()
    before = descriptors()
    task = asyncio.create_task(importer.import_commit(repos.config, repos.applied, stuck, repos.base))
    while not any("pack-objects" in line for line in running()):
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running() == [] and left(repos) == [] and descriptors() == before


async def test_side_by_side(repos: AgentRepositories, importer: CommitImporter) -> None:
    """Several intakes at one time, good and bad, do not disturb each other."""
    commit, bad = repos.commit({"prompt.md": "second\n"}), repos.commit({"agent.toml": "x = 1\n"})
    takes = [
        importer.import_commit(repos.config, repos.applied, sha, repos.base) for sha in (commit, bad, commit, "1" * 40)
    ]
    one, two, three, four = await asyncio.gather(*takes, return_exceptions=True)
    assert one == three and not isinstance(one, BaseException)
    assert isinstance(two, HiveError) and two.code == "bad_agent_toml"
    assert isinstance(four, HiveError) and four.code == "no_such_commit"


async def test_scratch_removed_meanwhile(repos: AgentRepositories, importer: CommitImporter) -> None:
    """Whatever lies in the scratch directory may be removed between two intakes."""
    commit = repos.commit({"prompt.md": "second\n"})
    for _ in range(2):
        await importer.import_commit(repos.config, repos.applied, commit, repos.base)
        for path in sorted(repos.scratch.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


async def test_git_missing(repos: AgentRepositories, importer: CommitImporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is told so."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HiveError) as refused:
        await importer.import_commit(repos.config, repos.applied, "1" * 40, None)
    assert refused.value.code == "git_missing"


def test_memory_stays_flat(repos: AgentRepositories) -> None:
    """The daemon's memory hardly grows at its highest, whatever hostile repositories it is offered."""
    orders: list[tuple[str, str, float]] = [(str(repos.home), repos.base, LIMITS.seconds)]
    for number, case in enumerate(CASES):
        repositories = AgentRepositories(Path(shutil.copytree(repos.home, repos.home.with_name(str(number)))))
        orders.append(
            (str(repositories.home), case.make(repositories), 1.0 if case.code == "intake_slow" else LIMITS.seconds)
        )
    script = "import asyncio; from tests.integration.gate.measure_intake_memory import main; asyncio.run(main())"
    root = Path(__file__).parents[3]
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, input=json.dumps(orders), capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["codes"] == ["", *(case.code for case in CASES)]
    assert measured["growth"] < MOST_GROWTH, measured
