"""Vendors of models: the settings for one, and a stand-in that speaks Anthropic's Messages API and checks a key."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAME = "standin"
"""The provider's name in the settings and in ada's agent.toml."""
MODEL = "standin-1"
ANSWER = "Apples cost 120 cents."
_RATES = {"input": 3.0, "output": 15.0}
"""Dollars for a million tokens."""


class _Handler(BaseHTTPRequestHandler):
    key = ""

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("x-api-key") != self.key:
            self._answer(401, {"type": "error", "error": {"type": "authentication_error", "message": "another key"}})
            return
        usage = {"input_tokens": len(request) // 4, "output_tokens": len(ANSWER) // 4}
        content = [{"type": "text", "text": ANSWER}]
        answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content}
        self._answer(200, {**answer, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what is shown is what the hive says."""

    def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(directory: Path) -> Iterator[dict[str, Any]]:
    """Serve, with a new key in a file in `directory`; yields the settings `relay` for this vendor."""
    key = secrets.token_hex(16)
    handler = type("Handler", (_Handler,), {"key": key})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield settings(directory, NAME, key, f"http://127.0.0.1:{server.server_port}", rates=_RATES)
        server.shutdown()


def settings(directory: Path, name: str, key: str, base_url: str | None, **more: Any) -> dict[str, Any]:
    """Write a key into a file in `directory`; returns the settings `relay` for the vendor that accepts it."""
    keys = directory / "keys"
    keys.mkdir(mode=0o700)
    (keys / name).touch(0o600)
    (keys / name).write_text(key)
    provider = {"api": "anthropic", "base_url": base_url, "keys": [name], **more}
    return {"providers": {name: provider}, "credentials": str(keys)}
