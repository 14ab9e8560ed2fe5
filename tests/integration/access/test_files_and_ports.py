"""`cp`, `port-forward`, `diff` and `fetch` with a real agent."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp

from tests.integration.access.caller import SECONDS, Caller

SERVER = """
import http.server, socketserver
class Server(http.server.ThreadingHTTPServer):
    pass
server = Server(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(server.server_port, flush=True)
server.serve_forever()
"""


async def program(*line: str) -> str:
    """Run a program of this host, which must succeed; return its output."""
    process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_files_are_copied_both_ways(caller: Caller, place: Path) -> None:
    """Directories arrive as they were, with modes and links; links that lead out and special files are left out."""
    source = place / "tree"
    (source / "below").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "large").write_bytes(os.urandom(3_000_000))
    (source / "below" / "run").write_text("#!/bin/sh\n")
    (source / "below" / "run").chmod(0o4755)
    (source / "below" / ("long-" * 40 + "name")).write_text("long")
    (source / "below" / "up").symlink_to("../large")
    inward = await caller.run("cp", str(source), "ada:/state/")
    assert (inward.code, inward.err) == (0, ""), inward
    outward = await caller.run("cp", "ada:/state/tree", str(place / "back"))
    assert (outward.code, outward.err) == (0, ""), outward
    await program("diff", "-r", "--no-dereference", str(source), str(place / "back"))
    assert (place / "back" / "below" / "run").stat().st_mode & 0o7777 == 0o755
    again = await caller.run("cp", "ada:/state/tree/large", str(place / "back" / "large"))
    assert again.out == b"copied 1 file, 2.9 MiB\n", again
    trap = "cd /state; mkdir trap; cd trap; ln -s /etc/passwd out; ln -s ../../x up; mkfifo pipe; echo ok > ok"
    await caller.run("exec", "ada", "--", "sh", "-c", trap)
    trapped = await caller.run("cp", "ada:/state/trap", str(place))
    assert trapped.code == 1
    assert sorted(path.name for path in (place / "trap").iterdir()) == ["ok"]
    assert trapped.err.count("not copied: ") == 3
    missing = await caller.run("cp", "ada:/state/nothing", str(place))
    assert (missing.code, "there is no /state/nothing in the agent" in missing.err) == (1, True)
    assert (await caller.run("cp", str(place / "nothing"), "ada:/state")).code == 1
    relative = await caller.run("cp", "ada:out.txt", str(place))
    assert relative.code == 2 and "AGENT:/code/REPO/out.txt" in relative.err
    refused = await caller.run("cp", str(source / "below" / "run"), "ada:/usr/")
    assert refused.code == 1 and "Cannot open" in refused.err and "\\n" not in refused.err


async def test_a_port_of_the_agent_is_reached(caller: Caller) -> None:
    """Many connections lead to the agent's port; a port on which nothing listens is said; Ctrl-C ends it."""
    server = await caller.start("exec", "ada", "--directory", "/run/hive", "--", "python3", "-c", SERVER)
    assert server.stdout is not None
    inside = int(await asyncio.wait_for(server.stdout.readline(), SECONDS))
    forward = await caller.start("port-forward", "ada", f"{inside}:0")
    assert forward.stdout is not None and forward.stderr is not None
    told = (await asyncio.wait_for(forward.stdout.readline(), SECONDS)).decode()
    found = re.fullmatch(rf"http://ada\.localhost:(\d+) is port {inside} of ada\n", told)
    assert found is not None, told

    async def get(session: aiohttp.ClientSession) -> int:
        async with session.get(f"http://127.0.0.1:{found[1]}/", headers={"Connection": "close"}) as answer:
            await answer.read()
            return answer.status

    async with aiohttp.ClientSession() as session:
        assert set(await asyncio.gather(*(get(session) for _ in range(30)))) == {200}
    server.kill()
    await server.wait()
    served = True
    while served:  # The server in the agent ends a moment after its caller.
        reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        try:
            served = bool(await asyncio.wait_for(reader.read(), SECONDS))
        except ConnectionResetError:
            served = False
        writer.close()
    assert b"ada says: port" in await asyncio.wait_for(forward.stderr.readline(), SECONDS)
    forward.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(forward.wait(), SECONDS) == 130


async def test_git_of_the_agent_is_seen_and_fetched(caller: Caller, place: Path) -> None:
    """The difference is shown with escapes; the agent's branches become refs below refs/hive/ada, and nothing else."""
    make = """
    mkdir -p /state/web; cd /state/web; git init -qb main; echo one > file; git add file; git commit -qm first
    git tag v1; printf 'two\\033[31m\\n' >> file; echo new > added; echo 'exit 1' > .git/hooks/pre-upload
    """
    assert (await caller.run("exec", "ada", "--", "sh", "-c", make)).code == 0
    shown = await caller.run("diff", "ada", "/state/web")
    assert shown.code == 0, shown.err
    assert "+two\\x1b[31m\n" in shown.out.decode() and "+new\n" in shown.out.decode()
    assert b"\x1b" not in shown.out
    mine = place / "mine"
    await program("git", "init", "-q", str(mine))
    hook = mine / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {place}/ran\n")
    hook.chmod(0o755)
    fetched = await caller.run("fetch", "ada", "/state/web", cwd=mine)
    assert fetched.code == 0, fetched.err
    refs = await program("git", "-C", str(mine), "for-each-ref", "--format=%(refname)")
    assert refs.split() == ["refs/hive/ada/main"]
    assert fetched.out.decode().rstrip().endswith("git log refs/hive/ada/main")
    assert not (place / "ran").exists()
    nothing = await caller.run("fetch", "ada", "/state", cwd=mine)
    assert nothing.code == 1
