"""Files that a killed agent CLI has left half written do not stop the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hive_agent.backends.base import Ok
from tests.helpers.fake_messages_api import Text as Says
from tests.integration.backends.agent_clis import CLAUDE, CODEX, GEMINI, OPENCODE, AgentCli, Answers, each, opened
from tests.integration.backends.test_backends import turn
from tests.unit.agent.fake_core_api import fake_core

pytestmark = pytest.mark.timeout(300)

HALF = b'{"numStartups": 1, "proj'
LEFT = {
    "claude": {".claude.json": HALF, ".credentials.json": b"", "settings.json": b"", "history.jsonl": HALF},
    "codex": {"codex/auth.json": HALF, "codex/config.toml": b"[mcp_serv", "codex/history.jsonl": HALF},
    "gemini": {
        "gemini/.gemini/settings.json": b"",
        "gemini/.gemini/projects.json": HALF,
        "gemini/.gemini/oauth_creds.json": b"",
        "gemini/.gemini/google_accounts.json": HALF,
        "gemini/.gemini/trustedFolders.json": HALF,
        "gemini/.gemini/state.json": b"",
        "gemini/.gemini/installation_id": b"",
        "gemini/policy.toml": b"[[rule",
    },
    "opencode": {
        "opencode/opencode.json": HALF,
        "opencode/data/opencode/auth.json": HALF,
        "opencode/config/opencode/opencode.json": b"",
        "opencode/state/opencode/model.json": HALF,
    },
}
"""By backend: files of the CLI as they are after a kill."""


@pytest.mark.parametrize("cli", each(OPENCODE, CODEX, GEMINI, CLAUDE))
async def test_half_written_files_of_a_cli(tmp_path: Path, cli: AgentCli) -> None:
    """A turn works, whatever is half written."""
    for path, content in LEFT[cli.name].items():
        file = tmp_path / "claude" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    async with (
        fake_core(tmp_path / "run") as core,
        cli.serve(Answers([Says("Four.")])) as api,
        opened(cli, tmp_path, core, api.url) as backend,
    ):
        assert await backend.logged_in()
        assert await backend.run(turn("how many?"), lambda _entry: None) == Ok()
