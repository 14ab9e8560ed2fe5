"""Checks of Nix's settings, also of a real Nix with the settings of the host's module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hive_core.doctor import probes
from hive_core.doctor.findings import CommandOutput, Finding, Severity
from hive_core.doctor.nix_checks import NixFacts, check_nix
from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER
from hive_core.settings import NixOS, Settings
from tests.unit.core.runtimes.nixos.build.isolated_nix import OwnNix, needs_nix

ROOT = Path(__file__).parents[4]
MODULE = ROOT / "nix/host/nix.nix"
USUAL = {"sandbox": True, "sandbox-fallback": False, "trusted-users": ["root"]}
RECOMMENDED = ["root", "@wheel", BUILD_USER]


def findings(
    settings: dict[str, object], build_user: Any = "dynamic", groups: frozenset[str] = frozenset()
) -> dict[str, Finding]:
    """Findings about users and the sandbox, by check."""
    facts = NixFacts(CommandOutput("nix (Nix) 2.31.2"), "answers", USUAL | settings, build_user_groups=groups)
    found = check_nix(facts, Settings(runtime="nixos", nixos=NixOS(build_user=build_user)))
    return {each.check: each for each in found if each.check.endswith("-users") or "sandbox" in each.check}


@pytest.mark.parametrize(
    ("allowed", "build_user", "severity", "word"),
    [
        (["*"], "dynamic", "warning", "every agent with nix_daemon = true"),
        (["*", BUILD_USER], "root", "warning", "every agent with nix_daemon = true"),
        (RECOMMENDED, "dynamic", "ok", "no agent"),
        ("root @wheel hyperhive-build", "auto", "ok", "no agent"),
        (["root", "@wheel"], "dynamic", "error", "proposals are refused"),
        (["root", "@wheel"], "auto", "warning", "root evaluates them"),
        (["root", "@wheel"], "root", "ok", "no agent"),
        (["@builders"], "dynamic", "ok", "no agent"),
        (["@others"], "dynamic", "error", "proposals are refused"),
        ([], "dynamic", "error", "proposals are refused"),
        (None, "dynamic", "warning", "it is not known"),
    ],
)
def test_who_may_use_the_nix_daemon(allowed: object, build_user: Any, severity: Severity, word: str) -> None:
    """Agents should not; the user that evaluates has to, unless root does. What is not ok has a remedy."""
    finding = findings({"allowed-users": allowed}, build_user, frozenset({"builders"}))["nix-allowed-users"]
    assert (finding.severity, word in finding.what) == (severity, True), finding
    assert bool(finding.remedy) == (severity != "ok")
    if severity != "ok" and allowed is not None:
        assert 'nix.settings.allowed-users = [ "root" "@wheel" "hyperhive-build" ]; ' in finding.remedy


@pytest.mark.parametrize(
    ("trusted", "found"),
    [
        (["root", "@wheel"], None),
        (["root", "*"], "error"),
        (["root", BUILD_USER], "error"),
        (["root", f"@{BUILD_USER}"], "error"),
    ],
)
def test_whom_the_nix_daemon_trusts(trusted: list[str], found: Severity | None) -> None:
    """Whoever is trusted by Nix can be root: neither everybody nor the user that evaluates may be."""
    settings: dict[str, object] = {"allowed-users": RECOMMENDED, "trusted-users": trusted}
    finding = findings(settings, groups=frozenset({BUILD_USER})).get("nix-trusted-users")
    assert (finding and finding.severity) == found
    assert finding is None or ("root on this host" in finding.what and finding.remedy)


def test_findings_say_why() -> None:
    """Findings about the sandbox say what can happen, and which setting of the host to change."""
    found = findings({"sandbox": "relaxed", "sandbox-fallback": True, "allowed-users": RECOMMENDED})
    assert "sandbox = 'relaxed'" in found["nix-sandbox"].what
    assert "with the network and the files of a user of this host" in found["nix-sandbox"].what
    assert found["nix-sandbox"].remedy.startswith("nix.settings.sandbox = true;")
    assert "runs without one" in found["nix-sandbox-fallback"].what
    assert found["nix-sandbox-fallback"].remedy.startswith("nix.settings.sandbox-fallback = false;")


FAKE_LIB = """{
  mkIf = condition: value: if condition then value else null;
  mkDefault = value: value;
  optional = condition: value: if condition then [ value ] else [ ];
}"""
"""As much of nixpkgs' lib as the module uses; nothing is merged."""


def module(own: OwnNix, settings: str, conf: str = "{ sandbox = true; sandbox-fallback = false; }") -> dict[str, Any]:
    """The host's module, evaluated by Nix alone with a fake lib, for these settings of the daemon and of nix.conf."""
    hive = f"services.hyperhive = {{ enable = true; settings = {settings}; }};"
    expression = f"(import {MODULE} {{ lib = {FAKE_LIB}; config = {{ {hive} nix.settings = {conf}; }}; }}).config"
    found: dict[str, Any] = own.evaluate(expression)
    return found


@needs_nix
@pytest.mark.parametrize("build_user", ["dynamic", "auto", "root", None])
@pytest.mark.parametrize("host", ["", "allowed-users = root @wheel\n"])
async def test_real_nix_with_the_settings_of_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_user: Any, host: str
) -> None:
    """With the lines that the module adds to a nix.conf, a real Nix has the sandbox, and lets the build user in."""
    own = OwnNix(tmp_path)
    found = module(own, "{ }" if build_user is None else f'{{ nixos.build_user = "{build_user}"; }}')
    made = found["users"] or {"users": {}, "groups": {}}
    assert list(made["users"]) == list(made["groups"]) == ([] if build_user == "root" else [BUILD_USER])
    assert found["warnings"] == []
    lines = [f"{name} = {json.dumps(value)}" for name, value in found["nix"]["settings"].items()]
    for name, text in own.variables.items():
        monkeypatch.setenv(name, text)
    conf = own.directory / "conf/nix.conf"
    conf.write_text("\n".join([f"{host}build-users-group =", *lines, found["nix"]["extraOptions"] or ""]))
    facts = await probes.nix()
    judged = {
        each.check: each
        for each in check_nix(facts, Settings(runtime="nixos", nixos=NixOS(build_user=build_user or "dynamic")))
    }
    assert judged["nix-sandbox"].severity == "ok"
    assert "nix-sandbox-fallback" not in judged
    assert judged["nix-allowed-users"].severity == ("ok" if host else "warning")
    assert ("*" in facts.settings["allowed-users"]) == (host == "")  # type: ignore[operator]


@needs_nix
def test_module_warns_of_overrides(tmp_path: Path) -> None:
    """A host that builds without the sandbox hears of it whenever its system is built."""
    found = module(OwnNix(tmp_path), "{ }", '{ sandbox = "relaxed"; sandbox-fallback = true; }')
    relaxed, fallback = found["warnings"]
    assert 'nix.settings.sandbox is "relaxed"' in relaxed and "Set it to true" in relaxed
    assert "nix.settings.sandbox-fallback is true" in fallback and "Set it to false" in fallback


@needs_nix
async def test_settings_of_a_person_are_not_those_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor reads what the Nix daemon reads: not the nix.conf of whoever runs it, nor their NIX_CONFIG."""
    own = OwnNix(tmp_path)
    for name, text in own.variables.items():
        monkeypatch.setenv(name, text)
    (own.directory / "conf/nix.conf").write_text("sandbox = relaxed\nbuild-users-group =\n")
    private = own.directory / "home/.config/nix"
    private.mkdir(parents=True)
    (private / "nix.conf").write_text("sandbox = true\nallowed-users = nobody\n")
    monkeypatch.setenv("NIX_CONFIG", "sandbox = true\nsandbox-fallback = false")
    settings = (await probes.nix()).settings
    assert (settings["sandbox"], settings["sandbox-fallback"], settings["allowed-users"]) == ("relaxed", True, ["*"])


def test_groups_of_the_build_user() -> None:
    """Without an account, the user has the one group of its name that systemd makes; root's groups are read."""
    assert probes.groups_of("no-such-user-here") == {"no-such-user-here"}
    assert "root" in probes.groups_of("root")
