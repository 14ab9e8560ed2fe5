"""`hive-c0re check-config`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import hive_core.doctor
from hive_core.cli import main
from hive_core.cli.commands.host import host
from hive_core.doctor import Finding, Unanswered
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


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


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`serve` with variables, in an empty place."""
    monkeypatch.setattr(host, "import_daemon", lambda: None)  # It would turn the garbage collection off.
    places = ["--state-dir", str(tmp_path / "s"), "--run-dir", str(tmp_path / "r")]

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner(env=variables).invoke(main, ["serve", *places, *arguments])

    return run


def test_a_variable_that_is_no_setting_is_told_at_a_start(serve: Callable[..., Result]) -> None:
    """`serve` warns of a variable that looks like a setting and is none, and goes on."""
    result = serve("--check", HIVE_FOO="1")
    assert result.exit_code == 0 and result.stdout.startswith("would start with a new, empty hive")
    assert "hive-c0re: warning: the variable 'HIVE_FOO' is no setting\n" in result.stderr


def test_a_wrong_variable_is_refused_at_a_start(serve: Callable[..., Result], tmp_path: Path) -> None:
    """`serve` does not start with a wrong value of a setting, and says where it stands and what it may be."""
    result = serve(HIVE_LOG_LEVEL="x")
    said = "setting 'log_level' from HIVE_LOG_LEVEL: it must be 'debug', 'info', 'warning' or 'error'"
    assert (result.exit_code, result.stderr.splitlines()) == (1, [f"hive-c0re: {said}"])
    assert not list(tmp_path.iterdir())


WELL = Finding("git", "ok", "git is 2.39.5")
DOUBT = Finding("group", "warning", "no group \x1b[2J", "make it")
WRONG = Finding("nix", "error", "nix is not installed", "install it")


def examined(monkeypatch: pytest.MonkeyPatch, *findings: Finding, options: tuple[str, ...] = ()) -> int:
    """The exit code of the program when this is found."""
    monkeypatch.setattr(hive_core.doctor, "examine", lambda *_: list(findings))
    with pytest.raises(SystemExit) as ended:
        main.main(["doctor", *options], "hive-c0re")
    return int(str(ended.value.code))


@pytest.mark.parametrize(("findings", "code"), [((WELL, DOUBT), 0), ((WELL, DOUBT, WRONG), 1), ((), 0)])
def test_the_exit_code_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], findings: tuple[Finding, ...], code: int
) -> None:
    """1 if anything is wrong; warnings alone are not. The same with --json."""
    assert examined(monkeypatch, *findings) == code
    assert examined(monkeypatch, *findings, options=("--json",)) == code
    capsys.readouterr()


def test_each_finding_has_its_remedy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found, below it what to do; control characters are shown, not acted on."""
    examined(monkeypatch, WELL, DOUBT, WRONG)
    assert capsys.readouterr().out.splitlines() == [
        "ok       git is 2.39.5",
        r"warning  no group \x1b[2J",
        "         make it",
        "error    nix is not installed",
        "         install it",
        "not healthy: errors: 1, warnings: 1",
    ]


def test_without_a_daemon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """That nobody answers is told to the examination, which goes on."""
    told: list[str] = []

    def examine(file: Path | None, environment: object, socket: Path, ask: object) -> list[Finding]:
        assert callable(ask) and socket == tmp_path / "s"
        with pytest.raises(Unanswered) as problem:
            ask("/v1/status")
        told.append(problem.value.code)
        return [WELL]

    monkeypatch.setattr(hive_core.doctor, "examine", examine)
    with pytest.raises(SystemExit):
        main.main(["--socket", str(tmp_path / "s"), "doctor"], "hive-c0re")
    assert told == ["no_daemon"]
    capsys.readouterr()


async def test_a_real_examination(hive: Program, daemon: FakeHost, tmp_path: Path) -> None:
    """Against this machine and a daemon: JSON that says how healthy it is, and the exit code agrees."""
    ended = await hive.run("doctor", "--json", env={"HIVE_STATE_DIR": str(tmp_path), "HIVE_SANDBOX": "none"})
    found = {each["check"]: each for each in ended.json["findings"]}
    assert found["settings"]["severity"] == found["daemon"]["severity"] == found["git"]["severity"] == "ok"
    assert "/var/lib/hyperhive" in found["settings-in-use"]["what"]
    assert ended.json["healthy"] == all(each["severity"] != "error" for each in ended.json["findings"])
    assert ended.code == (0 if ended.json["healthy"] else 1)
    assert "nix" not in found


async def test_settings_that_cannot_be_read(hive: Program, tmp_path: Path) -> None:
    """Wrong settings are an error with the whole key, beside that of the daemon that is not there; no traceback."""
    file = tmp_path / "config.toml"
    file.write_text('[ceilings]\nmemory_max = "lots"\n')
    ended = await hive.run("doctor", "--config", str(file), "--json")
    found = {each["check"]: each for each in ended.json["findings"]}
    assert (ended.code, ended.err) == (1, "")
    assert "'ceilings.memory_max'" in found["settings"]["what"]
    assert found["daemon"]["severity"] == "error" and "hive-c0re serve" in found["daemon"]["remedy"]
