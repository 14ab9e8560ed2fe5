"""The modules, evaluated with a real nixpkgs where there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from hive_core.settings import load
from tests.unit.project.nix.evaluation import enabled_features, evaluate
from tests.unit.project.nix.test_options import AGENT, HOST, documented

pytestmark = [pytest.mark.nixpkgs, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What evaluate.nix gives, evaluated once."""
    done = evaluate("evaluate.nix")
    assert done.returncode == 0, done.stderr[-5_000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_systems(found: dict[str, Any]) -> None:
    """A host, an agent and the manager evaluate to the end, and no assertion fails."""
    assert found["failed"] == found["warnings"] == {"agent": [], "host": [], "manager": []}
    assert {name: path.endswith(".drv") for name, path in found["systems"].items()} == {
        "agent": True,
        "host": True,
        "manager": True,
    }


def test_options(found: dict[str, Any]) -> None:
    """The options that the modules really have are those of the page."""
    assert {f"services.hyperhive.{name}" for name in documented(HOST[0])} == set(found["options"]["host"])
    assert {f"hyperhive.{name}" for name in documented(AGENT[0])} == set(found["options"]["agent"])


def test_settings(found: dict[str, Any], tmp_path: Path) -> None:
    """The daemon takes the settings that the module makes, and they say what the options say."""
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(found["settings"]))
    settings = load(file, {}, {})
    assert (settings.runtime, settings.health_timeout, settings.ceilings.memory_max) == ("nixos", 120, "8G")
    assert settings.nixos.flake.startswith("path:/")
    assert [rule.name for rule in settings.approval.rules] == ["words only"]


def test_daemon(found: dict[str, Any]) -> None:
    """The daemon is watched, keeps its run directory over a restart, and has few capabilities."""
    service = found["daemon"]["serviceConfig"]
    assert found["containers"] is True
    assert service["FileDescriptorStoreMax"] > 0 and service["FileDescriptorStorePreserve"] == "yes"
    assert {"bubblewrap", "e2fsprogs", "git", "nix", "nixos-container", "systemd", "util-linux"} <= set(
        found["daemon"]["path"]
    )
    assert (service["Type"], service["RuntimeDirectoryPreserve"], service["KillMode"]) == ("notify", "yes", "mixed")
    assert service["WatchdogSec"] > 0
    assert not {"CAP_NET_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"} & set(service["CapabilityBoundingSet"])
    assert not {"RestrictNamespaces", "ProtectKernelTunables"} & set(service)


WRITTEN = {
    "/var/lib/hyperhive",
    "/var/lib/nixos-containers",
    "/nix/var/nix/profiles/per-container",
    "/nix/var/nix/gcroots/per-container",
}


def test_mounts(found: dict[str, Any]) -> None:
    """Paths that agents can write are on mounts without setuid programs and devices, and the daemon waits for them."""
    assert {mount["where"] for mount in found["mounts"]} == WRITTEN
    for mount in found["mounts"]:
        assert mount["what"] == mount["where"] and set(mount["options"].split(",")) == {"bind", "nosuid", "nodev"}


def test_a_state_directory_on_a_file_system_of_its_own(found: dict[str, Any]) -> None:
    """Its mount is the host's, which is told what to add."""
    assert {mount["where"] for mount in found["separate"]["mounts"]} == WRITTEN - {"/var/lib/hyperhive"}
    [said] = [text for text in found["separate"]["warnings"] if text.startswith("services.hyperhive: agents")]
    assert 'fileSystems."/var/lib/hyperhive".options' in said


def test_experimental_features_of_a_host(found: dict[str, Any]) -> None:
    """A host may write its experimental features as one string or as a list, and has flakes in both cases."""
    assert [enabled_features(text) for text in found["features"]] == [
        {"nix-command", "flakes"},
        {"nix-command", "flakes", "ca-derivations"},
    ]


def test_nix_of_a_host(found: dict[str, Any]) -> None:
    """Nix builds in its sandbox only; the user that evaluates exists and may use Nix, unless root evaluates."""
    usual, restricted, by_root = found["nix"]
    for each in (usual, restricted, by_root):
        assert {"sandbox = true", "sandbox-fallback = false"} <= set(each["conf"].splitlines())
    lines = restricted["conf"].splitlines()
    assert lines.index("allowed-users = root @wheel") < lines.index("extra-allowed-users = hyperhive-build")
    assert "allowed-users = *" in usual["conf"].splitlines()
    assert [(each["user"], each["group"]) for each in (usual, restricted)] == [(True, "hyperhive-build")] * 2
    assert (by_root["user"], "hyperhive-build" in by_root["conf"]) == (False, False)


def test_builds_without_sandbox_are_warned_of(found: dict[str, Any]) -> None:
    """A host may override both settings of the sandbox, and is warned of each when the system is built."""
    relaxed, fallback = found["unsandboxed"]
    assert 'nix.settings.sandbox is "relaxed"' in relaxed
    assert "nix.settings.sandbox-fallback is true" in fallback


def test_agent(found: dict[str, Any]) -> None:
    """An agent's system is a container with its harness and what its agent.nix adds, and without its files."""
    agent = found["agent"]
    service = agent["harness"]["serviceConfig"]
    assert (agent["isContainer"], agent["hostName"], agent["useDHCP"]) == (True, "h-ada", False)
    assert service["ExecStart"].endswith("/bin/hive-ag3nt serve")
    assert service["EnvironmentFile"] == "/run/hive/environment"
    assert (service["StandardOutput"], service["Restart"], service["WorkingDirectory"]) == (
        "journal+console",
        "always",
        "/state",
    )
    assert agent["harness"]["environment"]["GREETING"] == "hello"
    assert agent["harness"]["environment"]["HIVE_AGENT_ENVIRONMENT"] == "GREETING"
    assert agent["access"]["serviceConfig"]["ExecStart"].endswith("/bin/hive-ag3nt access")
    assert agent["access"]["environment"] == agent["harness"]["environment"]
    assert agent["access_starts"] == "/run/hive/access.wanted"
    assert agent["console"] is False
    assert agent["shown"] == ["hyperhive/mcp.json", "hyperhive/recipe", "hyperhive/sftp-server"]
    assert agent["recipe"].startswith("sha256-")
    assert set(agent["servers"]["mcpServers"]) == {"clock"}
    assert {"hello", "git", "hive-ag3nt"} <= set(agent["programs"])
    assert "claude-code" not in agent["programs"]


def test_manager(found: dict[str, Any]) -> None:
    """The manager runs its own harness, and Claude Code is there because its agent.toml asks for it."""
    assert found["manager"]["harness"]["serviceConfig"]["ExecStart"].endswith("/bin/hive-m1nd serve")
    assert "claude-code" in found["manager"]["programs"]


def test_clis_in_the_store_of_a_host(found: dict[str, Any]) -> None:
    """The host's store has the CLIs of the manager and of `agents.backends`, exactly as agents' systems have them."""
    backends = found["backends"]
    assert backends["none"] == []
    assert backends["host"] == backends["manager"]
    assert sorted(backends["more"]) == sorted(backends["agents"])


def test_creation_of_the_manager(found: dict[str, Any]) -> None:
    """A switch starts the unit anew, and what it says with one exit code keeps systemd from doing so before."""
    unit = found["creation"]
    assert unit["wantedBy"] == ["multi-user.target"]
    assert unit["serviceConfig"]["RestartPreventExitStatus"] == 78


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("place", "cannot be bound into containers"),
        ("stranger", "users.users does not have: bob"),
        ("runtime", "settings sets runtime"),
        ("containers", "boot.enableContainers is forced to be false"),
        ("old", "below 22.05"),
    ],
)
def test_assertions(found: dict[str, Any], case: str, words: str) -> None:
    """What cannot work is refused when the system is built, with what is wrong in words."""
    assert any(words in message for message in found["said"][case])
