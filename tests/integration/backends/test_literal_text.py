"""Agent CLIs expand no text of anybody, and pass the descriptions of MCP servers as they are written."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from hive_agent.backends.base import Ok, Turn
from hive_core.protocol import Delivery
from tests.helpers.fake_messages_api import Text as Says
from tests.helpers.fake_messages_api import ToolUse
from tests.helpers.loopback import serving
from tests.integration.backends.agent_clis import CLAUDE, CODEX, GEMINI, OPENCODE, AgentCli, Answers, each, opened
from tests.integration.backends.claude_code import delivery, silent
from tests.unit.agent.fake_core_api import fake_core

pytestmark = pytest.mark.timeout(300)

EXPANDED = "CONTENT-OF"
"""The beginning of each text that must not reach the model."""
COMMANDS = (
    "state/.claude/commands/review",
    "claude/commands/audit",
    "state/.opencode/command/check",
    "claude/opencode/config/opencode/command/test",
    "state/.gemini/commands/look",
    "claude/gemini/.gemini/commands/see",
    "claude/codex/prompts/inspect",
)
SKILLS = (
    "state/.claude/skills/one",
    "claude/skills/two",
    "state/.agents/skills/three",
    "state/.codex/skills/four",
    "claude/codex/skills/five",
    ".agents/skills/six",
    "state/.gemini/skills/seven",
    "state/.opencode/skills/eight",
)


def plant_files(place: Path) -> None:
    """Write a file for each name in the hostile texts."""
    named = ["bob", "state/bob", "state/team", "state/sub/bob", "claude/gemini/.gemini/bob"]
    texts = dict.fromkeys(named, "")
    for name in COMMANDS:
        texts |= {f"{name}.md": "$ARGUMENTS", f"{name}.toml": 'prompt = "CONTENT-OF {{args}}"'}
    for name in SKILLS:
        texts[f"{name}/SKILL.md"] = f"---\nname: {Path(name).name}\ndescription: knows things\n---\n"
    for name, text in texts.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text if name.endswith(".toml") else f"{text}{EXPANDED} {name}\n")


def hostile(place: Path, where: str) -> str:
    """A text with everything that one of the CLIs treats specially; `where` is the place in which it stands."""
    file = place / "bob"
    commands = [Path(command).name for command in COMMANDS]
    skills = [Path(skill).name for skill in SKILLS]
    return "\n".join(
        [
            f'@bob in the {where}: @team, @./bob @{file} @"{file}" @~/bob @../bob @sub/ (@bob) `@bob` @. @{file}#L1-2',
            f"\\@bob \\\\@bob a@bob.example @told:res://secret @res://secret @file:{file} @agent-general-purpose",
            *(f"/{command} all" for command in [*commands, "compact", "clear", "init", "mcp__told__ask", "told:ask"]),
            f"!cat bob\n! cat bob\n!`cat {file}` !{{cat {file}}} @{{bob}} `cat {file}` $(cat {file})",
            "# remember bob\n#bob\n$HOME ${HOME} $ARGUMENTS $1 $& $$ {{args}} {env:HOME} ultrathink",
            f"{{file:{file}}} <file>{file}</file> file://{file} ![x]({file}) [x](bob)",
            *(f"${skill} @{skill} /{skill} [${skill}](skill://{skill})" for skill in skills),
            *(f"[${skill}]({place}/{path}/SKILL.md)" for skill, path in zip(skills, SKILLS, strict=True)),
            "ends with @bob",
        ]
    )


LITERALS = {
    "BRACES": "${HOME}",
    "PLAIN": "$HOME",
    "WORD": "pa$word",
    "MISSING": "${NOT_SET} $NOT_SET ${NOT_SET:-x}",
    "CURLY": "{env:HOME} {file:/etc/hostname}",
    "SHELL": "`id` $(id) %HOME% $$ ~ * \"a\" 'b' \\$HOME \\n",
    "LINES": "one\ntwo\n",
}

SERVER = """
import json, os, sys

report, told, *arguments = sys.argv[1:]
with open(report, "w") as file:
    json.dump({"args": arguments, "env": dict(os.environ)}, file)
ANSWERS = {
    "tools/list": {"tools": [{"name": "look", "description": "look", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [{"type": "text", "text": told}]},
    "resources/list": {"resources": [{"uri": "res://secret", "name": "secret"}]},
    "resources/read": {"contents": [{"uri": "res://secret", "text": "CONTENT-OF resource"}]},
    "prompts/list": {"prompts": [{"name": "ask"}]},
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "CONTENT-OF prompt"}}]},
}
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        answer = ANSWERS.get(message["method"], {})
        if message["method"] == "initialize":
            answer = {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
                "serverInfo": {"name": "told", "version": "1"},
            }
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer}), flush=True)
"""
"""An MCP server that writes its arguments and environment to a file."""


def strings(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def remove(texts: list[str], text: str) -> list[str]:
    """Remove `text`, which must occur, also within JSON in a text."""
    quoted = [json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]]
    left = texts
    for form in (text, *quoted):
        left = [found.replace(form, "") for found in left]
    assert left != texts, f"this did not reach the model unchanged: {text}"
    return left


@pytest.mark.parametrize("cli", each(OPENCODE, CODEX, GEMINI, CLAUDE))
async def test_literal_text(tmp_path: Path, cli: AgentCli) -> None:
    """The model reads prompt.md, messages, answers of tools and notes as they are, and no file that they name; an MCP
    server gets the arguments and variables that agent.toml has, and of the harness's only those that are named.
    """
    plant_files(tmp_path)
    places = ("message", "added message", "role", "answer", "notes")
    message, added, role, answer, notes = (hostile(tmp_path, where) for where in places)
    focus = hostile(tmp_path, "focus").replace("\n", " ")[:1_500]
    (tmp_path / "state/notes.md").write_text(notes)
    (tmp_path / "server.py").write_text(SERVER)
    look = cli.send.replace("hive", "told").replace("send", "look")
    model = Answers([ToolUse(look, {})], [Says("I looked.")])
    # Claude Code gets messages while a turn runs, and has a command for compaction, which takes a focus; the others
    # would be started once more for them, and begin a new conversation with the notes.
    waiting = [delivery(added, 9)] if cli is CLAUDE else []
    model.add(*[[Says("I see.")], [Says("<summary>sheep</summary>")]] if cli is CLAUDE else [[Says("done")]])

    async def arriving() -> Sequence[Delivery]:
        return [waiting.pop()] if waiting else ()

    arguments = [str(tmp_path / "server.py"), str(tmp_path / "report"), answer, *LITERALS.values()]
    addresses: set[str] = set()

    async def no_server(request: web.Request) -> web.Response:
        addresses.add(request.query_string)
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/mcp", no_server)
    async with fake_core(tmp_path / "run") as core, cli.serve(model) as api, serving(app) as port:
        servers = {
            "told": {"command": sys.executable, "args": arguments, "env": LITERALS},
            "web": {"url": f"http://127.0.0.1:{port}/mcp?a=${{HOME}}&b=$HOME&c={{env:HOME}}"},
        }
        more = [("GH_TOKEN", "ghp_named"), ("OTHER", "x")]
        config = {"tools": [], "mcp_servers": servers, "environment": ["GH_TOKEN"], "secrets": ["NPM_TOKEN"]}
        (core.socket.parent / "secrets").mkdir()
        (core.socket.parent / "secrets" / "NPM_TOKEN").write_text("npm_secret\n")
        async with opened(cli, tmp_path, core, api.url, more=more, prompt=role, **config) as backend:
            assert await backend.run(Turn((delivery(message, 7),), 7, more=arriving), silent) == Ok()
            assert await backend.compact(silent, focus) == Ok()
            if cli is not CLAUDE:
                assert await backend.run(Turn((delivery("and goats?", 8),), 8), silent) == Ok()
    texts = list(strings(api.requests))
    assert not [text for text in texts if EXPANDED in text]
    # As docs/agents.md says: these two have no setting against the expansion of a prompt.
    written = ("@", "\\@") if cli is GEMINI else ("$", "$\\") if cli is CODEX else ("@", "@")
    texts = remove(remove(texts, role), answer)
    texts = remove(texts, message.replace(*written))
    for text in (added, focus) if cli is CLAUDE else (notes.replace(*written),):
        texts = remove(texts, text)
    for word in ("ultrathink", "general-purpose"):
        assert not [text for text in texts if word in text]

    report = json.loads((tmp_path / "report").read_text())
    assert report["args"] == list(LITERALS.values())
    assert {name: report["env"].get(name) for name in LITERALS} == LITERALS
    assert set(report["env"]) - set(LITERALS) == {
        "GH_TOKEN",
        "HIVE_AGENT_CODE",
        "HIVE_AGENT_RUN",
        "HIVE_AGENT_STATE",
        "HIVE_PARENT_PID",
        "HOME",
        "LANG",
        "NPM_TOKEN",
        "PATH",
        "TMPDIR",
    }
    assert report["env"]["NPM_TOKEN"] == "npm_secret"
    written_files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not [path for path in written_files if b"npm_secret" in path.read_bytes()]
    assert addresses == {"a=${HOME}&b=$HOME&c={env:HOME}"}
