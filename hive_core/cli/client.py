"""The client of the daemon: HTTP on `host.sock`, and the path of that socket."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from hive_core.cli.errors import Failure, NoDaemon, hint_of_command, name_of_field
from hive_core.layout import DEFAULT_STATE_DIR, Layout, default_run_dir
from hive_core.protocol.names import (
    NAME_PATTERN,
    STREAM_TYPE,
    is_repository_name,
    why_no_repository_name,
    why_not,
)

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

PATIENCE_SECONDS = 60.0
"""Time limit of an answer, in addition to the time that the daemon was asked to wait."""
STREAM_SILENCE_SECONDS = 120.0
"""Time limit between two lines of an event stream; the daemon sends keep-alive lines more often."""


def agent_path(name: str, action: str = "") -> str:
    """Return the URL path of an agent. An invalid name could reach another path, so it raises Failure."""
    return f"/v1/agents/{_quoted_name(name)}{'/' + action if action else ''}"


def proposal_path(name: str, number: int, action: str = "") -> str:
    """Return the URL path of an agent's proposal. An invalid name raises Failure."""
    return f"/v1/proposals/{_quoted_name(name)}/{number}{'/' + action if action else ''}"


def work_path(repo: str, number: int, action: str = "") -> str:
    """Return the URL path of a proposal of work. An invalid name raises Failure."""
    if not is_repository_name(repo):
        raise Failure("bad_repository_name", why_no_repository_name(repo), hint='"hive-c0re work" shows what there is')
    return f"/v1/work/{quote(repo)}/{number}{'/' + action if action else ''}"


def _quoted_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise Failure("bad_name", why_not(name), hint='"hive-c0re list" shows the names of the agents')
    return quote(name)


_LISTS = {"unknown_agent": "agents", "unknown_repository": "repositories"}
"""Lists of names, by the code of the error about an unknown one."""


class Client:
    """HTTP client of one daemon. Every error becomes a `Failure`, which can be shown to the user."""

    def __init__(self, socket_option: str | None, timeout: float = PATIENCE_SECONDS) -> None:
        """`socket_option` is the value of `--socket`, if given; `timeout` limits each answer, in seconds."""
        self._timeout = timeout
        self.path = host_socket(socket_option, os.environ)

    def get(self, path: str, query: Mapping[str, object] | None = None, *, wait: float = 0.0) -> dict[str, Any]:
        """Send a GET and return the answer; `wait` is the time (seconds) that the daemon was asked to wait."""
        return self._call("GET", _with_query(path, query), None, wait)

    def post(self, path: str, body: Mapping[str, object], *, wait: float = 0.0) -> dict[str, Any]:
        """Send a POST with a JSON body and return the answer; `wait` as for `get`."""
        return self._call("POST", path, encode_body(body), wait)

    def send_stream(
        self, path: str, query: Mapping[str, object] | None, pieces: Iterable[bytes], *, wait: float = 0.0
    ) -> dict[str, Any]:
        """Send a POST whose body comes in pieces and return the answer; `wait` as for `get`."""
        headers = {"Content-Type": STREAM_TYPE, "Transfer-Encoding": "chunked"}
        with closing(_open_connection(self.path, self._timeout + wait)) as connection, self.errors_as_failures():
            connection.connect()
            with suppress(BrokenPipeError, ConnectionResetError):  # As for a large body that is refused.
                connection.request("POST", _with_query(path, query), pieces, headers, encode_chunked=True)
            response = connection.getresponse()
            content = response.read()
        if response.status >= 400:
            raise refusal_of(response.status, content)
        return _decoded(response.status, content)

    @contextmanager
    def stream(self, path: str, query: Mapping[str, object] | None, headers: Mapping[str, str]) -> Iterator[Lines]:
        """Open an event stream."""
        with closing(_open_connection(self.path, STREAM_SILENCE_SECONDS)) as connection:
            with self.errors_as_failures():
                connection.connect()
                connection.request("GET", _with_query(path, query), headers=dict(headers))
                response = connection.getresponse()
                if response.status >= 400:
                    raise refusal_of(response.status, response.read())
            yield Lines(self, response)

    def _call(self, method: str, path: str, body: bytes | None, wait: float) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with closing(_open_connection(self.path, self._timeout + wait)) as connection, self.errors_as_failures():
            connection.connect()
            with suppress(BrokenPipeError):  # A daemon that refuses a large body stops reading; its answer says why.
                connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
        if response.status >= 400:
            raise self._suggesting(refusal_of(response.status, content), path.partition("?")[0])
        return _decoded(response.status, content)

    def _suggesting(self, failure: Failure, path: str) -> Failure:
        """Add the name that was probably meant to a failure about an unknown agent or repository in `path`."""
        listing = _LISTS.get(failure.code)
        place, _, rest = path.removeprefix("/v1/").partition("/")
        if listing != place:
            return failure
        from hive_core.errors.faults import did_you_mean  # noqa: PLC0415 - loaded only where it is needed

        try:
            found = self.get(f"/v1/{listing}").get(listing, [])
            names = [str(each["name"]) for each in found]
        except (Failure, KeyError, TypeError):
            return failure
        message = failure.message + did_you_mean(rest.partition("/")[0], names)
        return Failure(failure.code, message, hint=failure.hint, transient=failure.transient)

    @contextmanager
    def errors_as_failures(self) -> Iterator[None]:
        """Raise a Failure for each error of the connection within the block."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise NoDaemon(
                "no_daemon",
                f"no daemon is listening on {self.path}",
                hint='start one with "hive-c0re serve", or name its socket with --socket',
                transient=True,
            ) from None
        except PermissionError:
            raise Failure(
                "no_permission",
                f"no permission to use {self.path}",
                hint=f'ask to be added to its group ("ls -l {self.path}" shows it), then log in again',
            ) from None
        except TimeoutError:
            raise Failure(
                "no_answer",
                f"the daemon on {self.path} did not answer in time",
                hint="its log says what it is doing",
                transient=True,
            ) from None
        except ConnectionError:
            raise self._broken_off() from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise Failure(
                "no_connection", f"cannot connect to {self.path}: {reason}", hint="name another socket with --socket"
            ) from None
        except Exception as error:
            if isinstance(error, _http_errors()):
                raise self._broken_off() from None
            raise

    def _broken_off(self) -> Failure:
        return Failure(
            "connection_lost",
            f"the connection to {self.path} broke off before the answer was complete",
            hint="the request may have been carried out or not; see the daemon's log",
            transient=True,
        )


def encode_body(body: Mapping[str, object]) -> bytes:
    """Return a body as JSON. Raises Failure if it cannot be written."""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Failure("invalid_request", f"the request cannot be written as JSON: {error}") from None


def _open_connection(path: Path, timeout: float) -> HTTPConnection:
    from hive_core.cli.unix_connection import UnixConnection  # noqa: PLC0415 - sessions do without HTTP's library

    return UnixConnection(path, timeout)


def _http_errors() -> tuple[type[Exception], ...]:
    """Return the errors of HTTP's library, which is loaded only when something has failed."""
    from http.client import HTTPException  # noqa: PLC0415

    return (HTTPException,)


class Lines:
    """Lines of an open event stream, in the order of their arrival."""

    def __init__(self, client: Client, response: HTTPResponse) -> None:
        self._client = client
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines until the daemon ends the stream. Raises a transient Failure if the connection breaks."""
        while True:
            with self._client.errors_as_failures():
                line = self._response.readline()
            if not line:
                return
            yield line


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def refusal_of(status: int, content: bytes) -> Failure:
    """Return the failure that an answer of the daemon with an error status means."""
    error = _decoded(status, content).get("error")
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return bad_answer(status)
    code, message, hint = error["code"], str(error.get("message", error["code"])), str(error.get("hint") or "")
    if fields := error.get("fields"):
        message = "; ".join(f"{name_of_field(str(each['field']))}: {each['reason']}" for each in fields)
        hint = hint if code == "bad_name" else hint_of_command()
    return Failure(code, message, hint=hint, transient=code == "stopping")


def _decoded(status: int, content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:
        raise bad_answer(status) from None
    if not isinstance(answer, dict):
        raise bad_answer(status)
    return answer


def bad_answer(status: int) -> Failure:
    """Return the failure for an answer that no daemon of the hive gives."""
    return Failure(
        "bad_answer",
        f"the answer (HTTP status {status}) is not an answer of hive-c0re serve",
        hint="check that the socket belongs to hive-c0re and not to another program",
    )


DEFAULT_FILE = Path("/etc/hyperhive/config.toml")


def host_socket(option: str | None, environment: Mapping[str, str], file: Path = DEFAULT_FILE) -> Path:
    """Return the socket of `--socket` or HIVE_SOCKET, else the socket of a daemon with these settings."""
    explicit = option or environment.get("HIVE_SOCKET")
    if explicit:
        return Path(explicit).absolute()
    configured = _read_directories(file)
    run = environment.get("HIVE_RUN_DIR", configured.get("run_dir"))
    state = Path(environment.get("HIVE_STATE_DIR", configured.get("state_dir", DEFAULT_STATE_DIR))).absolute()
    return Layout(state, default_run_dir(state) if run is None else Path(run).absolute()).host_socket


def _read_directories(file: Path) -> dict[str, str]:
    """Return the directories of the settings file; none if it is unreadable, which the daemon itself reports."""
    if not os.access(file, os.R_OK):
        return {}
    import tomllib  # noqa: PLC0415 - most calls do not need it

    try:
        values = tomllib.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {key: values[key] for key in ("run_dir", "state_dir") if isinstance(values.get(key), str)}
