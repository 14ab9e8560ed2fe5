"""What the system prompt says of what an agent was given."""

from __future__ import annotations

from pathlib import Path

from hive_agent.environment import AgentEnvironment
from hive_agent.prompts import system_prompt
from hive_agent.prompts.grants import render_grants
from hive_agent.role import AGENT
from hive_core.protocol import AgentConfig, Profile


def environment(directory: Path, **secrets: str) -> AgentEnvironment:
    """An agent's environment with these secrets and the offered directory `web-data`."""
    (directory / "secrets").mkdir()
    for name, value in secrets.items():
        (directory / "secrets" / name).write_text(value)
    (directory / "secrets" / ".NPM_TOKEN.new").write_text("half written")
    (directory / "web-data").mkdir()
    return AgentEnvironment.read(
        {"HIVE_AGENT_SECRETS": str(directory / "secrets"), "HIVE_BIND_WEB_DATA": str(directory / "web-data")}
    )


def test_nothing_is_said_of_nothing(tmp_path: Path) -> None:
    """An agent that was given nothing is told nothing about it."""
    profile = Profile(name="ada", kind="agent", config=AgentConfig(), prompt="", deployment=1, lease_seconds=60)
    nothing = AgentEnvironment.read({"HIVE_AGENT_SECRETS": str(tmp_path / "missing")})
    assert render_grants(profile.config, nothing) == ""
    assert "What you were given" not in system_prompt.render(profile, AGENT, nothing)
    config = AgentConfig(devices=["kvm"])
    given = system_prompt.render(profile.model_copy(update={"config": config}), AGENT, nothing)
    assert "# What you were given\n\n- Device `kvm`" in given


def test_directories_and_devices(tmp_path: Path) -> None:
    """Each directory is told with its place; one that the runtime does not show is not."""
    config = AgentConfig(binds=["web-data", "unseen"], devices=["gpu", "fuse"])
    text = render_grants(config, environment(tmp_path))
    assert f"- `{tmp_path}/web-data` (also `$HIVE_BIND_WEB_DATA`) is the directory `web-data` of the host. You" in text
    assert "unseen" not in text
    assert "`/dev/dri`" in text and "`/dev/fuse`" in text


def test_secrets(tmp_path: Path) -> None:
    """Secrets are told by name: those of turns, those only in files, and those that are not there. No value is told."""
    found = environment(tmp_path, NPM_TOKEN="v1-hidden", OTHER="v2-hidden")
    text = render_grants(AgentConfig(secrets=["NPM_TOKEN", "MISSING"]), found)
    place = f"`{tmp_path}/secrets` (also `$HIVE_AGENT_SECRETS`)"
    assert f"as files of the same names in {place}: `NPM_TOKEN`." in text
    assert f"only as files, in {place}: `OTHER`." in text
    assert "the operator has not given you: `MISSING`." in text
    assert "hidden" not in text and ".new" not in text


def test_services() -> None:
    """A service is told with its address in the agent; one that the runtime gives no address is not."""
    found = AgentEnvironment.read({"HIVE_SERVICE_MY_DB": "127.0.0.1:3200"})
    text = render_grants(AgentConfig(services=["my-db", "unseen"]), found)
    assert text == (
        "- Service `my-db`: connect to `127.0.0.1:3200` (also `$HIVE_SERVICE_MY_DB`), directly and not through a proxy."
    )
