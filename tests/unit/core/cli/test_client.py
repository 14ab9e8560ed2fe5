"""Where the program looks for the daemon's socket, and what it makes of refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.cli.client import DEFAULT_FILE, host_socket
from hive_core.settings import DEFAULT_FILE as SETTINGS_FILE
from hive_core.settings import load
from tests.unit.core.cli.fake_host_api import FakeHost, agent
from tests.unit.core.cli.run_cli import Program


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HIVE_STATE_DIR": "/srv/hive"},
        {"HIVE_STATE_DIR": "relative"},
        {"HIVE_STATE_DIR": "/var/lib/hyperhive"},
        {"HIVE_STATE_DIR": "/var/lib/hyperhive/"},
        {"HIVE_RUN_DIR": "/srv/run"},
        {"HIVE_RUN_DIR": "relative"},
        {"HIVE_RUN_DIR": ""},
        {"HIVE_RUN_DIR": "/srv/run", "HIVE_STATE_DIR": "/srv/hive"},
    ],
)
@pytest.mark.parametrize("file", ["", 'state_dir = "/opt/hive"', 'run_dir = "/opt/run"\nstate_dir = "/opt/hive"'])
def test_as_the_daemon_has_it(environment: dict[str, str], file: str, tmp_path: Path) -> None:
    """The program looks where a daemon with the same file and environment listens."""
    path = tmp_path / "config.toml"
    path.write_text(file)
    assert host_socket(None, environment, path) == load(path, environment, {}).layout.host_socket
    assert DEFAULT_FILE == SETTINGS_FILE


def test_a_named_socket_wins(tmp_path: Path) -> None:
    """--socket comes before HIVE_SOCKET, and that before all directories."""
    environment = {"HIVE_SOCKET": "/a/one.sock", "HIVE_RUN_DIR": "/b"}
    assert host_socket("/c/two.sock", environment, tmp_path / "none") == Path("/c/two.sock")
    assert host_socket(None, environment, tmp_path / "none") == Path("/a/one.sock")
    assert host_socket(None, {"HIVE_SOCKET": ""}, tmp_path / "none") == Path("/run/hyperhive/host.sock")


@pytest.mark.parametrize("text", ["not = [toml", "state_dir = 7", "\x00"])
def test_a_broken_file_names_nothing(text: str, tmp_path: Path) -> None:
    """A settings file that cannot be read does not keep the operator from a daemon that runs."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert host_socket(None, {}, path) == Path("/run/hyperhive/host.sock")


async def test_a_mistyped_agent_gets_a_suggestion(hive: Program, daemon: FakeHost) -> None:
    """A name that no agent has is answered with the name that was probably meant, if there is one."""
    daemon.agents = [agent("alice")]
    assert "did you mean 'alice'?" in (await hive.run("show", "alicce")).err
    assert "did you mean" not in (await hive.run("show", "zed")).err
