"""The tests' host is as the NixOS side has it: what one says of the daemon's unit, the other says too."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HOST = ROOT / "tests/system/host/etc/systemd/system"
UNITS = {
    "hive-c0re": ROOT / "nix/host/service.nix",
    "hive-egress": ROOT / "nix/host/egress.nix",
    "hive-relay": ROOT / "nix/host/relay.nix",
    "hive-dashboard": ROOT / "nix/host/dashboard.nix",
}
"""The units of the tests' host, with the modules that have them on NixOS."""
OF_THE_PLACE = {"ExecStart", "ExecStartPre", "Environment", "EnvironmentFile", "LoadCredential"}
"""Settings that name the programs and files of one host or the other."""


def service_of_the_tests(unit: str) -> dict[str, list[str]]:
    """The settings of the unit's section [Service], each with its words."""
    section = (HOST / f"{unit}.service").read_text().partition("[Service]\n")[2]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, value in re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE):
        found[key] += value.split()
    return {key: sorted(filter(None, words)) for key, words in found.items() if key not in OF_THE_PLACE}


def service_of_the_module(module: Path) -> dict[str, list[str]]:
    """The same as the module has it, for the usual state directory."""
    _, shared, text = re.sub(r"#[^\n]*", "", module.read_text()).partition("serviceConfig = ")
    if text.startswith("import ./hardening.nix"):
        text += (module.parent / "hardening.nix").read_text()
    assert shared
    found = {}
    for key, value in re.findall(r"\b([A-Z]\w+) = (\[.*?\]|\"[^\"]*\"|[\w.]+)", text, re.DOTALL):
        words = re.findall(r'"([^"]*)"', value) if value[0] in '["' else [value]
        found[key] = sorted(filter(None, words))
    return {key: words for key, words in found.items() if key not in OF_THE_PLACE}


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_as_on_nixos(unit: str) -> None:
    """A unit has every setting of the module, its hardening above all, and no other."""
    assert service_of_the_tests(unit) == service_of_the_module(UNITS[unit])


def test_where_no_host_can_be_booted_the_reason_is_said(tmp_path: Path) -> None:
    """One line and an exit status of its own, so that nobody takes it for a failed or a passed test."""
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    command = [str(ROOT / "tests/system/host.sh"), "true"]
    done = subprocess.run(
        command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr == "no systemd host for tests: this needs root\n"
