"""Stand-ins of the REST interfaces of GitHub Enterprise and Forgejo for pull requests, with git over https beside them.

They answer as the documentation of both says, to what the hive asks; nothing else is there. No real GitHub and no real
Forgejo runs in the tests.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

TOKEN = "token-" + "t" * 30
OWNER, NAME = "acme", "web"


@dataclass
class FakeForge:
    """One server with one repository, whose pull requests are in `pulls` and whose git repository is `bare`.

    `faults` are answers to the next requests of the interface, each a status, or "drop": the request is carried out and
    the connection then closed. `old` is a version of Forgejo that finds no pull request by its branches.
    """

    kind: Literal["github", "forgejo"]
    authority: Path
    bare: Path | None = None
    port: int = 0
    old: bool = False
    pulls: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    faults: list[int | str] = field(default_factory=list)

    @property
    def server(self) -> str:
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.server}/{OWNER}/{NAME}.git"

    @property
    def root(self) -> str:
        return "/api/v1" if self.kind == "forgejo" else "/api/v3"

    def add_pull(self, head: str, base: str, owner: str = OWNER, state: str = "open") -> dict[str, Any]:
        """Open a pull request, from a fork if the owner is another one."""
        pull = {
            "number": len(self.pulls) + 7,
            "state": state,
            "merged": False,
            # GitHub has the commit of a trial here, until it is merged.
            "merge_commit_sha": "e" * 40 if self.kind == "github" else None,
            "html_url": "https://elsewhere.example/evil",
            "head": {"ref": head, "repo": {"full_name": f"{owner}/{NAME}"}},
            "base": {"ref": base, "repo": {"full_name": f"{OWNER}/{NAME}"}},
        }
        self.pulls.append(pull)
        return pull

    def merge(self, number: int, commit: str, head: str = "") -> None:
        """Merge a pull request, with a commit that the caller has made.

        With the commit `head` of its branch, that branch is removed afterwards.
        """
        (pull,) = (pull for pull in self.pulls if pull["number"] == number)
        pull.update(state="closed", merged=True, merge_commit_sha=commit)
        if head and self.kind == "forgejo":
            pull["head"].update(ref=f"refs/pull/{number}/head", sha=head)

    # --- requests -------------------------------------------------------------------------------------------

    async def interface(self, request: web.Request) -> web.StreamResponse:
        """Answer a request below the root of the interface."""
        authorization = request.headers.get("Authorization", "")
        self.requests.append((request.method, request.path_qs, authorization))
        fault = self.faults.pop(0) if self.faults else 0
        if isinstance(fault, int) and fault:
            headers = {"Location": "https://localhost:1/"} if 300 <= fault < 400 else {}
            return web.json_response({"message": "a fault"}, status=fault, headers=headers)
        if "User-Agent" not in request.headers:
            return web.json_response({"message": "no user agent"}, status=403)
        path = request.path.removeprefix(self.root)
        if path == "/version" and self.kind == "forgejo":
            return web.json_response({"version": "11.0.1"})
        if path == "/meta" and self.kind == "github":
            return web.json_response({"installed_version": "3.15.0"})
        if authorization != (f"token {TOKEN}" if self.kind == "forgejo" else f"Bearer {TOKEN}"):
            return web.json_response({"message": "Bad credentials"}, status=401)
        answer = await self._pulls(request, path)
        if fault == "drop":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _pulls(self, request: web.Request, path: str) -> web.StreamResponse:
        place = f"/repos/{OWNER}/{NAME}/pulls"
        if path == place and request.method == "POST":
            return self._create(await request.json())
        if path == place:
            return web.json_response(self._list(request))
        for pull in self.pulls:
            if path == f"{place}/{pull['number']}":
                return web.json_response(pull)
        if path.startswith(f"{place}/") and self.kind == "forgejo" and not self.old:
            base, _, head = path.removeprefix(f"{place}/").partition("/")
            for pull in self.pulls:
                if (pull["base"]["ref"], pull["head"]["ref"]) == (base, head):
                    return web.json_response(pull)
        return web.json_response({"message": "Not Found"}, status=404)

    def _list(self, request: web.Request) -> list[dict[str, Any]]:
        found = [pull for pull in self.pulls if request.query.get("state") == "all" or pull["state"] == "open"]
        if self.kind == "github" and (head := request.query.get("head")):
            owner, _, ref = head.partition(":")
            wanted = (f"{owner}/{NAME}", ref)
            found = [pull for pull in found if (pull["head"]["repo"]["full_name"], pull["head"]["ref"]) == wanted]
        size = int(request.query.get("limit") or request.query.get("per_page") or 30)
        start = (int(request.query.get("page", 1)) - 1) * size
        return found[::-1][start : start + size]

    def _create(self, wanted: dict[str, str]) -> web.Response:
        own = f"{OWNER}/{NAME}"
        for pull in self.pulls:
            same = (pull["head"]["repo"]["full_name"], pull["head"]["ref"], pull["base"]["ref"], pull["state"])
            if same == (own, wanted["head"], wanted["base"], "open"):
                status = 409 if self.kind == "forgejo" else 422
                return web.json_response({"message": "a pull request already exists"}, status=status)
        pull = {**self.add_pull(wanted["head"], wanted["base"]), "title": wanted["title"], "body": wanted["body"]}
        self.pulls[-1] = pull
        return web.json_response(pull, status=201)

    async def git(self, request: web.Request) -> web.StreamResponse:
        """Serve the repository by `git http-backend` (RFC 3875) to whoever has the token."""
        assert self.bare is not None
        expected = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.bare.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{self.bare.name}/{request.match_info['tail']}",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "hive",
        }
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        # The body as it came: git itself takes its encoding away.
        output, _ = await process.communicate(await request.read())
        head, _, body = output.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, body=body, headers=headers)


@asynccontextmanager
async def fake_forge(
    home: Path, kind: Literal["github", "forgejo"], bare: Path | None = None
) -> AsyncIterator[FakeForge]:
    """A running stand-in on the loopback, whose certificate is in `authority`."""
    home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    key, certificate = home / "key.pem", home / "cert.pem"
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    await asyncio.to_thread(
        subprocess.run,
        [*making, *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    forge = FakeForge(kind, certificate, bare)
    # Compressed packs arrive as they were sent.
    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_route("*", f"{forge.root}/{{tail:.*}}", forge.interface)
    application.router.add_route("*", f"/{OWNER}/{NAME}.git/{{tail:.*}}", forge.git)
    runner = web.AppRunner(application, auto_decompress=False)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        forge.port = runner.addresses[0][1]
        yield forge
    finally:
        await runner.cleanup()
