"""The keeper of one long-running program: starts it, stores the end of its output, and ends it with all it started.

It is run by its path, `python -I -S keeper.py DIRECTORY [PARENT]`, with nothing but the standard library, because it
stays as long as the program does. The order comes from the harness, on the socket `starter` beside DIRECTORY, so that
no environment is on a disk or in arguments. The keeper writes into DIRECTORY:

- `status.json`: the state of the program, see `hive_agent.programs.records`;
- `log` and `log.1`: the last output;
- `control`: a socket. Whoever connects sees that the program runs; `stop` ends it; the connection ends with it.

PARENT is the process id of the harness, with whose end the program ends. Without it, systemd owns the keeper.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

LOG_BYTES = 1024 * 1024
"""Bytes of one of the two files of output."""
_CHUNK = 64 * 1024
_AGAIN_SECONDS = 0.5
"""Between the first SIGKILL and the next one, for what was started meanwhile."""
_KILL_SECONDS = 5.0
_ORDER_SECONDS = 10.0
_MOST_CALLERS = 32
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class OutputLog:
    """The output, in two files of a bounded size. What cannot be written is dropped: the program goes on."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._file = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        try:
            if self._file < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                self._file = os.open("log", flags, 0o600, dir_fd=self._directory)
                self._size = os.fstat(self._file).st_size
            self._size += os.write(self._file, data)
            if self._size >= LOG_BYTES:
                os.rename("log", "log.1", src_dir_fd=self._directory, dst_dir_fd=self._directory)
                os.close(self._file)
                self._file = -1
        except OSError:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1


class Keeper:
    """The keeper of the program whose order is in `directory`, a descriptor."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._log = OutputLog(directory)
        self._selector = selectors.DefaultSelector()
        self._callers: list[socket.socket] = []
        self._status: dict[str, Any] = {"state": "running", "started_at": _now(), "keeper": os.getpid()}
        self._ending = ""
        """The state that the end of the program has, if somebody ended it."""
        self._deadline: float | None = None
        self._grace = 0.0
        """Seconds between SIGTERM and SIGKILL."""
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Start the program and keep it until its end; returns the exit code of the keeper."""
        listener = self._listen()
        wake = self._watch_signals()
        try:
            self._start()
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._end("failed", f"cannot be started: {_describe(error)}")
            return 1
        process = self._process
        assert process is not None and process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        output = process.stdout.fileno()
        for source in (listener, wake, output):
            self._selector.register(source, selectors.EVENT_READ)
        self._store()
        _tell_ready()
        while process.poll() is None:
            wait = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            for key, _ in self._selector.select(wait):
                if key.fileobj is listener:
                    self._accept(listener)
                elif key.fileobj is wake:
                    self._handle_signals(wake)
                elif key.fileobj == output:
                    self._copy_output(output)
                else:
                    self._answer(key.fileobj)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._deadline = time.monotonic() + _AGAIN_SECONDS
                _kill_descendants()
        _end_descendants()
        while self._copy_output(output):
            pass
        code = process.returncode
        self._end(self._ending or "exited", f"signal {-code}" if code < 0 else f"exit code {code}")
        return 0

    def _listen(self) -> socket.socket:
        """Bind the control socket. The harness starts no second keeper while one answers there."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink("control", dir_fd=self._directory)
        # Through the descriptor, because the address of a socket has at most 107 bytes.
        listener.bind(f"/proc/self/fd/{self._directory}/control")
        listener.listen(16)
        listener.setblocking(False)
        return listener

    def _watch_signals(self) -> socket.socket:
        wake, writer = socket.socketpair()
        wake.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        return wake

    def _start(self) -> None:
        order = self._fetch_order()
        self._grace = float(order["grace"])
        self._process = subprocess.Popen(  # noqa: S603 - the agent's own program
            order["argv"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=order["directory"],
            env=order["environment"],
            start_new_session=True,
            preexec_fn=_die_with_keeper,  # noqa: PLW1509 - there is one thread
        )
        self._status["pid"] = self._process.pid

    def _fetch_order(self) -> dict[str, Any]:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{self._directory}"))  # noqa: PTH115, PTH119
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as starter:
            starter.settimeout(_ORDER_SECONDS)
            starter.connect(f"/proc/self/fd/{self._directory}/../starter")
            starter.sendall(json.dumps({"keep": name}).encode() + b"\n")
            with starter.makefile("rb") as answer:
                found: dict[str, Any] = json.loads(answer.readline())["order"]
                return found

    def _handle_signals(self, wake: socket.socket) -> None:
        self._reap_orphans()
        if set(wake.recv(256)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            # Not asked for by the agent: the next harness starts it again.
            self._terminate("interrupted")

    def _reap_orphans(self) -> None:
        """Reap what has ended except for the program itself, whose end `Popen` reports."""
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if self._process is None or ended.si_pid == self._process.pid:
                    return
                os.waitpid(ended.si_pid, os.WNOHANG)

    def _terminate(self, state: str) -> None:
        # A stop counts more than the end of the harness, whichever comes first.
        self._ending = state if self._ending != "stopped" else self._ending
        if self._deadline is None and self._process is not None:
            self._deadline = time.monotonic() + self._grace
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)

    def _copy_output(self, pipe: int) -> bool:
        try:
            data = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return False
        if data:
            self._log.write(data)
        elif pipe in self._selector.get_map():
            self._selector.unregister(pipe)
        return bool(data)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            caller, _ = listener.accept()
            if len(self._callers) >= _MOST_CALLERS:
                caller.close()
                return
            caller.setblocking(False)
            self._callers.append(caller)
            self._selector.register(caller, selectors.EVENT_READ)

    def _answer(self, caller: Any) -> None:
        try:
            words = caller.recv(64)
        except OSError:
            words = b""
        if words.strip() == b"stop":
            self._terminate("stopped")
        if not words:
            self._selector.unregister(caller)
            self._callers.remove(caller)
            caller.close()

    def _end(self, state: str, reason: str) -> None:
        self._status.update(state=state, reason=reason, ended_at=_now())
        self._store()
        with suppress(OSError):
            os.unlink("control", dir_fd=self._directory)

    def _store(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open("status.new", flags, 0o600, dir_fd=self._directory)
            with os.fdopen(file, "w") as stream:
                stream.write(json.dumps(self._status) + "\n")
            os.rename("status.new", "status.json", src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            sys.stderr.write(f"the state of the program cannot be stored: {error.strerror}\n")


def _describe(error: Exception) -> str:
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.strerror}: {error.filename}" if error.filename else error.strerror


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_keeper() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_descendants() -> set[int]:
    """Kill every descendant of this process; orphans are among them, because it is their subreaper."""
    found = find_descendants(os.getpid())
    for pid in found:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return found


def _end_descendants() -> None:
    """Kill and reap every descendant, after the end of the program itself."""
    deadline = time.monotonic() + _KILL_SECONDS
    while _kill_descendants() and time.monotonic() < deadline:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.005)


def find_descendants(root: int) -> set[int]:
    """Return the pids of the descendants of a process."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only
        if name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - without the import of pathlib
                    stat = file.read()
                parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
                children.setdefault(parent, []).append(int(name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def _tell_ready() -> None:
    """Tell the starter that the program runs: systemd by its protocol, the harness by a line."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
        return
    os.write(1, b"ready\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def main() -> int:
    """Keep the program of the directory that the command line names."""
    directory, *parent = sys.argv[1:]
    if parent:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent[0]):
            return 1
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    return Keeper(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)).run()


if __name__ == "__main__":
    sys.exit(main())
