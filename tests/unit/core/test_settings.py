"""The daemon's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.settings import Settings, load, unknown_variables


def test_later_sources_win(tmp_path: Path) -> None:
    """A flag beats a variable, a variable beats the file, the file beats the default."""
    file = tmp_path / "config.toml"
    file.write_text('inbox_limit = 1\nretention_days = 1\nlog_level = "error"\n')
    settings = load(file, {"HIVE_INBOX_LIMIT": "2", "HIVE_RETENTION_DAYS": "2"}, {"inbox_limit": 3, "sandbox": None})
    assert (settings.inbox_limit, settings.retention_days, settings.log_level) == (3, 2, "error")
    assert settings.sandbox == "auto"


@pytest.mark.parametrize(
    ("text", "environment", "named"),
    [
        ("inbox_limit = 0", {}, "config.toml"),
        ("inbox_limits = 5", {}, "inbox_limits"),
        ("not toml", {}, "config.toml"),
        ("", {"HIVE_SANDBOX": "maybe"}, "HIVE_SANDBOX"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, environment: dict[str, str], named: str) -> None:
    """The error names the setting or file that is wrong."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(HiveError) as refusal:
        load(file, environment, {})
    assert named in refusal.value.message


@pytest.mark.parametrize(
    ("variable", "value", "key", "hint"),
    [
        ("HIVE_CEILINGS", '{"memory_max": "lots"}', "'ceilings.memory_max'", ""),
        ("HIVE_CEILINGS", '{"memory": "1G"}', "'ceilings.memory'", "known keys of ceilings: memory_max, disk_max"),
        ("HIVE_APPROVAL", '{"config": "nobody"}', "'approval.config'", ""),
        ("HIVE_APPROVAL", '{"rules": [{"name": "a", "when": "now"}]}', "'approval.rules[0].when'", ""),
        (
            "HIVE_APPROVAL",
            '{"rules": [{"name": "a", "when": "paths", "files": []}]}',
            "'approval.rules[0].files'",
            "known keys of approval.rules[0]: name, when, paths",
        ),
        ("HIVE_LIMITS", "5", "'limits'", ""),
    ],
)
def test_a_wrong_key_in_a_table_is_named_whole(variable: str, value: str, key: str, hint: str) -> None:
    """The error names the key with the tables around it and its source, and what could stand in its place."""
    with pytest.raises(HiveError) as refusal:
        load(None, {variable: value}, {})
    assert f"setting {key} from {variable}:" in refusal.value.message
    assert refusal.value.hint.startswith(hint)
    assert bool(refusal.value.hint) == bool(hint)


def test_a_variable_that_is_no_setting() -> None:
    """A mistyped variable is told with the setting that was meant; those of agents and of other programs are not."""
    settings = load(None, {}, {"pass_environment": ["HIVE_SECRET"]})
    environment = dict.fromkeys(["HIVE_LOG_LEVL", "HIVE_FOO", "HIVE_SECRET", "HIVE_SOCKET", "HIVE_LIMITS", "PATH"], "1")
    assert unknown_variables(environment, settings) == [
        "the variable 'HIVE_FOO' is no setting",
        "the variable 'HIVE_LOG_LEVL' is no setting, did you mean HIVE_LOG_LEVEL?",
    ]


def test_a_missing_file_is_an_error_only_when_named(tmp_path: Path) -> None:
    """Without a file the defaults hold; a file that was asked for must be there."""
    assert load(None, {}, {}) == Settings()
    with pytest.raises(HiveError, match="No such file"):
        load(tmp_path / "absent.toml", {}, {})


def test_a_run_directory_too_deep_for_sockets_is_refused() -> None:
    """The kernel bounds a socket's path; the daemon says so before it starts anything."""
    deep = Settings(state_dir=Path("/x"), run_dir=Path("/" + "d" * 90))
    with pytest.raises(HiveError, match="kernel allows 107"):
        deep.layout.check_socket_lengths()
    Settings(state_dir=Path("/x"), run_dir=Path("/" + "d" * 70)).layout.check_socket_lengths()
