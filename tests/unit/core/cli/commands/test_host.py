"""`hive-c0re check-config`."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from hive_core.cli import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_a_good_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the daemon takes is taken, whatever the environment says."""
    monkeypatch.setenv("HIVE_INBOX_LIMIT", "none")
    file.write_text('runtime = "nixos"\n[ceilings]\nmemory_max = "4G"\n')
    result = CliRunner().invoke(main, ["check-config", str(file)])
    assert (result.exit_code, result.output) == (0, f"{file}: no errors\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('runtime = "docker"', "runtime"),
        ("colour = 1", "known settings"),
        ('[ceilings]\nmemory_max = "lots"', "ceilings"),
        ("not toml", "is not valid TOML"),
        (f'run_dir = "/{"deep/" * 30}"', "--run-dir"),
    ],
    ids=["value", "name", "table", "syntax", "length"],
)
def test_a_bad_file(text: str, says: str, file: Path) -> None:
    """What the daemon would refuse to start with ends with 1 and names what is wrong."""
    file.write_text(text)
    result = CliRunner().invoke(main, ["check-config", str(file)])
    assert result.exit_code == 1
    assert says in result.output


def test_no_file(file: Path) -> None:
    """A file that is not there is not a good one."""
    result = CliRunner().invoke(main, ["check-config", str(file)])
    assert result.exit_code == 1
    assert str(file) in result.output
