"""What holds for every test: how hard hypothesis searches, and that no skipped layer goes unseen."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "test",
    max_examples=50,
    # hypothesis turns this on by itself under CI, and would then try the same examples in every run.
    derandomize=False,
    print_blob=True,
    # How fast the machine is says nothing about the property.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("soak", settings.get_profile("test"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
"""Git sets these for hooks and `rebase --exec`; with them, git of the tests would work on the project itself."""


def pytest_configure() -> None:
    """Keep git to the repositories of the tests, and let Ctrl-C reach the programs under test.

    A shell starts what it runs in the background with SIGINT ignored.
    """
    for name in _REPOSITORY_VARIABLES:
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _skips(config: pytest.Config) -> list[str]:
    """One line for each file and reason: what did not run, how many tests that are, and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    found: Counter[tuple[str, str]] = Counter()
    for report in reporter.stats.get("skipped", []) if reporter else []:
        if isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            found[report.nodeid.partition("::")[0], reason] += 1
    return [f"{where} ({count}): {reason}" for (where, reason), count in sorted(found.items())]


def _skips_fail() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, object, object]:
    """Print the skips after everything but the count of results."""
    result = yield
    if skips := _skips(config):
        terminalreporter.write_line("")
        terminalreporter.write_line("skipped, which fails the run under CI=true:" if _skips_fail() else "skipped:")
        for line in skips:
            terminalreporter.write_line(f"  {line}")
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI=true a skip is a failure: a layer that cannot run there must not look as if it had passed."""
    if _skips_fail() and session.exitstatus == pytest.ExitCode.OK and _skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
