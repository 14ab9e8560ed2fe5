"""The layout of the project: the size of folders, the places of tests."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
ROOTS = ("hive_core", "hive_agent", "hive_manager", "tests", "nix", "docs")

MOST_AT_A_ROOT = 16
MOST_BELOW = 12
LARGER = {
    # Work on repositories is a subject of its own beside the gate of configurations, and so are the people.
    "hive_core": 20,
    # Models by subject: agents, configuration, messages, work, the network, vendors' models, people.
    "hive_core/protocol": 15,
    # The harness's helpers (processes, log, JSON, state files) stand beside what uses them, as they are no one subject.
    # The page and its scripts, most of which go when the dashboard shows the pages of agents.
    # What the operator changes in queues stands beside the leases, whose promises it keeps; so do people's inboxes.
    "hive_core/messaging": 14,
    # What people may know of agents stands beside what they are signed in with.
    "hive_core/people": 13,
    "hive_agent/web": 18,
    "hive_agent/web/static": 19,
    # The parts of the harness, the agent's side of sessions, and programs beyond a turn.
    "hive_agent": 17,
    # Connections to the gateways, and what agents hand over to them.
    "hive_core/infra": 13,
    # The tables of a large subject are beside the migrations.
    "hive_core/infra/database": 14,
    # What commands share is beside their folder.
    "hive_core/cli": 13,
    # The steps of a build, with the template of the flake; and their tests.
    "hive_core/runtimes/nixos/build": 13,
    "tests/unit/core/runtimes/nixos/build": 13,
    # A benchmark with its two sides (the hive's and the reference's) is several files.
    "tests/benchmarks": 35,
    # The fakes of the daemon that several folders below use are beside the tests of the harness's own modules.
    "tests/unit/agent": 17,
    "tests/unit/core/cli": 14,
    # One folder for each subject of the running hive.
    "tests/integration": 17,
    # The pages by subject, and the daemon beneath them: accounts, isolation, the process.
    "tests/integration/dashboard": 13,
    # One property test for each state machine or set of rules.
    "tests/property": 15,
    # One page for each subject that an operator looks up.
    "docs": 18,
    # The folders of hive_core, and the tests of its own modules.
    "tests/unit/core": 16,
    # A fake or a fixture for more than one level of tests each.
    "tests/helpers": 15,
    # Scenarios, one file each, and what they share.
    "tests/integration/api": 19,
    "tests/integration/gate": 13,
    "tests/system": 15,
    "tests/unit/project/nix": 13,
}
"""Folders with more entries than the rule allows. This list only gets shorter, and its numbers smaller."""

MIRRORED = {"tests/unit/core": "hive_core", "tests/unit/agent": "hive_agent", "tests/unit/manager": "hive_manager"}
"""Folders whose test files are named after the modules of a package."""
SCENARIOS = {
    # About the project, or about more than one module: every test in these folders.
    "tests/unit/project",
    "tests/property",
    "tests/integration",
    "tests/browser",
    "tests/soak",
    "tests/unit/core/work/gate/test_crashes.py",
    "tests/system",
    # The command lines of all CLIs that are started for each turn, and their output.
    "tests/unit/agent/backends/one_shot/test_commands.py",
    "tests/unit/agent/backends/one_shot/test_readers.py",
    # Everything that a model reads.
    "tests/unit/agent/prompts/test_prompts.py",
    # A browser's way in, and the page behind it.
    "tests/unit/agent/web/test_access.py",
    "tests/unit/agent/web/test_page.py",
    # The daemon dies between any two steps.
    "tests/unit/core/agents/test_crash_points.py",
    "tests/unit/core/gate/pipeline/test_crash_points.py",
    # The disk is full at any step, and then has room again.
    "tests/unit/core/gate/faults",
    # A default of settings has changed: at the update, and in every way to a deployment after it.
    "tests/unit/core/gate/records/test_networks.py",
    # What holds for all models.
    "tests/unit/core/protocol/test_protocol.py",
}
"""Test files, or folders of them, that are about no single module."""


def entries(folder: Path) -> list[Path]:
    """What a person sees in a folder: no compiled files, no marker for type checkers, no empty directories."""
    return [
        path
        for path in folder.iterdir()
        if path.name[0] != "." and path.name not in ("__pycache__", "py.typed") and (path.is_file() or has_files(path))
    ]


def has_files(folder: Path) -> bool:
    return any(path.is_file() and path.suffix != ".pyc" for path in folder.rglob("*"))


def folders() -> dict[str, int]:
    """Every folder of the project with the number of its entries."""
    found = {}
    for root in ROOTS:
        below = [path for path in (ROOT / root).rglob("*") if path.is_dir() and "__pycache__" not in path.parts]
        for folder in [ROOT / root, *below]:
            found[folder.relative_to(ROOT).as_posix()] = len(entries(folder))
    return found


def test_folders_are_small() -> None:
    """No folder has more entries than a person takes in at a glance, but for those that are listed."""
    large = {
        folder: count
        for folder, count in folders().items()
        if count > (MOST_BELOW if "/" in folder else MOST_AT_A_ROOT)
    }
    assert large == LARGER


def is_scenario(test: Path) -> bool:
    path = test.relative_to(ROOT)
    return any(part.as_posix() in SCENARIOS for part in (path, *path.parents))


def mirrors_a_module(test: Path) -> bool:
    """Whether there is a module, or a package, after which the test is named: `test_submit_rebuild` after `submit`."""
    path = test.relative_to(ROOT).as_posix()
    for folder, package in MIRRORED.items():
        if path.startswith(f"{folder}/"):
            beside = (ROOT / package / Path(path).relative_to(folder)).parent
            name = test.stem.removeprefix("test_")
            modules = [entry.stem for entry in beside.glob("*") if entry.suffix == ".py" or entry.is_dir()]
            return any(name == module or name.startswith(f"{module}_") for module in modules)
    return False


def test_test_files_belong_to_modules() -> None:
    """Every test file is named after the module that it tests, in the same folder, or is listed as a scenario."""
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(tests) > 150
    lost = [str(test.relative_to(ROOT)) for test in tests if not is_scenario(test) and not mirrors_a_module(test)]
    assert lost == []


def test_scenarios_are_needed() -> None:
    """What is listed as a scenario exists, and is not named after a module all the same."""
    assert [path for path in SCENARIOS if not (ROOT / path).exists()] == []
    assert [path for path in SCENARIOS if path.endswith(".py") and mirrors_a_module(ROOT / path)] == []
