"""Every endpoint under generated requests: it answers, as its OpenAPI document says, and never fails."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode, Response
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.control import SkipTest
from schemathesis.core.result import Ok

from tests.helpers.real_daemon import Daemon
from tests.integration.api.conftest import small_hive
from tests.integration.api.unix_adapter import BASE_URL, unix_session

SECONDS_PER_REQUEST = 10.0
LONGEST_WAIT = 0.01
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
)
EXCUSED = {
    # Which names are reserved is more than a pattern says; the size in bytes is more than lengths say.
    "bad_name": ("positive_data_acceptance",),
    "request_too_large": ("positive_data_acceptance", "negative_data_rejection"),
    # What is in a repository, or what a text in Nix means, no document says.
    "no_such_commit": ("positive_data_acceptance",),
    "build_failed": ("positive_data_acceptance",),
    "too_large": ("positive_data_acceptance",),
    "bad_agent_toml": ("positive_data_acceptance",),
    # Which files a configuration needs, and that executables are among them, is more than a schema says.
    "bad_tree": ("positive_data_acceptance",),
    # How much there is already, and what was offered, no document says.
    "too_many_questions": ("positive_data_acceptance",),
    "too_many_reminders": ("positive_data_acceptance",),
    "no_such_option": ("positive_data_acceptance",),
    "bad_prompt": ("positive_data_acceptance",),
    "bad_text": ("positive_data_acceptance",),
    # Which URLs the hive fetches from, and what a key looks like, is more than a pattern says.
    "bad_source": ("positive_data_acceptance",),
    "no_host_keys": ("positive_data_acceptance",),
    "bad_credential": ("positive_data_acceptance",),
    "no_upstream": ("positive_data_acceptance",),
    "not_a_stream": ("positive_data_acceptance",),
    # What is a host, no pattern says.
    "bad_rule": ("positive_data_acceptance",),
}
INSTANCE = "instance-1"
INBOX_LIMIT = 10_000
"""Room for all generated messages: a full inbox would refuse the questions that come after them."""
# These start processes, which is what other tests are for: their agents do not exist.
STARTING = tuple(f"/v1/agents/{{name}}/{verb}" for verb in ("start", "restart", "rebuild", "access"))
# Nothing waits for a decision, nothing to go back to, no commit that could be proposed, nothing that limits.
NOTHING_TO_DO = (
    "/v1/proposals",
    "/v1/agents/{name}/configuration",
    "/v1/agents/{name}/rollback",
    "/v1/agents/{name}/limits",
    "/v1/agents/{name}/secrets/remove",
    *(f"/v1/agents/{{name}}/queue/{{id}}/{verb}" for verb in ("remove", "edit", "move")),
    *(f"/v1/proposals/{{name}}/{{number}}/{verb}" for verb in ("approve", "deny", "withdraw", "allow-fetches")),
    # No rule of this host was made, bob has the host's network, and there are no requests.
    *(f"{path}/rules/remove" for path in ("/v1/network", "/v1/agents/{name}/network")),
    *("/v1/network/requests", "/v1/network/requests/{id}/approve", "/v1/network/requests/{id}/deny"),
    "/v1/kept/{name}/purge",
    # There is no work.
    "/v1/work",
    *(f"/v1/work/{{repo}}/{{number}}/{verb}" for verb in ("approve", "deny", "withdraw", "retry", "comments")),
)
# No harness runs that could be asked.
OF_HARNESSES = {
    *(f"GET /v1/agents/{{name}}/control{what}" for what in ("", "/turns", "/transcript", "/events")),
    *(
        f"POST /v1/agents/{{name}}/control/{verb}"
        for verb in (
            *("cancel", "retry", "skip", "pause", "resume", "compact", "new-session", "model", "login", "code"),
        )
    ),
}
# Every field may be missing, but not all of them, and so not the body.
NOT_EMPTY = ("POST /v1/agents/{name}/limits", "POST /v1/questions/{id}/answer")
# There is no work, no upstream, no SSH server, and no generated list of refs.
NO_WORK = {
    *(f"GET /v1/work/{{repo}}/{{number}}{what}" for what in ("", "/log", "/files/{file}")),
    *(f"POST /v1/repositories/{{repo}}/{verb}" for verb in ("fetch", "send")),
    "POST /v1/host-keys",
}
# Nobody is signed in, has a password or a link, and the agent bob has no account.
NO_ACCOUNT = {
    *(f"POST /v1/{what}" for what in ("sign-in", "set-up", "sign-out", "me/password", "tokens")),
    *(f"POST /v1/{kind}/{{id}}/revoke" for kind in ("sessions", "tokens")),
    *(f"POST /v1/people/{{name}}/{verb}" for verb in ("link", "role", "remove")),
}
# Only the daemon can make a ticket.
FOR_PAGES = tuple(f"/v1/page/{verb}" for verb in ("enter", "check", "send", "answer"))


class Socket:
    """One socket and what its document says of it."""

    def __init__(self, place: Path, agent: str | None, examples: int, question: int) -> None:
        load_all_checks()
        # Of an agent of which the caller may know what was proposed.
        self._spawned = {"name": agent or "bob", "number": "0"}
        self._checks: list[Any] = [CHECKS.get_one(name) for name in CHECKED]
        self._examples = examples
        self._session = unix_session(place)
        document = self._session.get(f"{BASE_URL}/v1/openapi.json", timeout=SECONDS_PER_REQUEST).json()
        self._schema = schemathesis.openapi.from_dict(document)
        self._ids = {"/v1/questions/{id}/answer": str(question)}
        self.answered: dict[str, set[int]] = {}

    def _post(self, path: str, body: dict[str, str | float]) -> Any:
        return self._session.post(BASE_URL + path, json=body, timeout=SECONDS_PER_REQUEST).json()

    def exercise(self, never: set[str]) -> None:
        """Ask every endpoint with data that fits the document and with data that does not.

        All endpoints accept something in the end, but for those of the labels in `never`.
        """
        with self._session:
            sent = str(self._post("/v1/messages", {"to": "operator", "body": "x"})["id"])
            self._post("/v1/harness/hello", {"instance": INSTANCE, "version": "1"})
            reminder = self._post("/v1/reminders", {"text": "x", "after": 1_000_000.0})
            self._ids["/v1/reminders/{id}/cancel"] = str(reminder.get("id", 1))
            operations = []
            for found in self._schema.get_all_operations():
                assert isinstance(found, Ok), found
                operations.append(found.ok())
            for operation in operations:
                if operation.path == "/v1/events":
                    continue  # A stream without an end; see test_events.py.
                self._ask(operation, GenerationMode.POSITIVE, {})
                self._ask(operation, GenerationMode.NEGATIVE, {})
                if "{name}" in operation.path and operation.path not in STARTING:
                    name = "ann" if operation.path.endswith("/destroy") else "bob"
                    self._ask(operation, GenerationMode.POSITIVE, {"name": name})
                if "{repo}" in operation.path:
                    repository = "old" if operation.path.endswith("/remove") else "web"
                    self._ask(operation, GenerationMode.POSITIVE, {"repo": repository})
                if "{name}" in operation.path and "{number}" in operation.path:
                    first_file = {"file": "0"} if "{file}" in operation.path else {}
                    self._ask(operation, GenerationMode.POSITIVE, self._spawned | first_file)
                if "{id}" in operation.path:
                    self._ask(operation, GenerationMode.POSITIVE, {"id": self._ids.get(operation.path, sent)})
            for operation in operations:
                if operation.label in self.refused() - never:
                    self._ask(operation, GenerationMode.POSITIVE, {}, 20 * self._examples)  # It was bad luck.

    def refused(self) -> set[str]:
        """Return the labels of the endpoints that have accepted nothing."""
        return {label for label, statuses in self.answered.items() if 200 not in statuses}

    def _ask(
        self,
        operation: APIOperation[Any, Any, Any, Any],
        mode: GenerationMode,
        path: dict[str, str],
        examples: int | None = None,
    ) -> None:
        cases = operation.as_strategy(generation_mode=mode, path_parameters=path or None)

        @settings(max_examples=examples or self._examples)
        @given(cases)
        def ask(case: Case[Any]) -> None:
            _tame(case)
            if mode is GenerationMode.POSITIVE:
                _make_acceptable(case)
            response = case.call(base_url=BASE_URL, session=self._session, timeout=SECONDS_PER_REQUEST)
            if _is_no_request(response):
                return
            self.answered.setdefault(operation.label, set()).add(response.status_code)
            excused: list[Any] = [CHECKS.get_one(name) for name in EXCUSED.get(_code(response), ())]
            case.validate_response(response, checks=self._checks, excluded_checks=excused)

        try:
            ask()
        except (SkipTest, Unsatisfiable):
            assert mode is GenerationMode.NEGATIVE, f"{operation.label}: nothing to ask"
            assert not operation.body, f"{operation.label}: every body fits"


_numbers = itertools.count()


def _is_no_request(response: Response) -> bool:
    """Whether the request line or a header was longer than the 8,190 bytes that the HTTP parser reads.

    The parser answers such a request itself, in plain text: no endpoint has seen it.
    """
    return response.status_code == 400 and response.text.startswith("Got more than 8190 bytes")


def _code(response: Response) -> str:
    """The error's code; empty if there is none."""
    if response.status_code == 200:
        return ""
    code: str = response.json()["error"]["code"]
    return code


def _make_acceptable(case: Case[Any]) -> None:
    """See to what a document cannot say of good data."""
    if case.operation.label in NOT_EMPTY and not isinstance(case.body, dict):
        case.body, case.media_type = {}, "application/json"  # What follows puts into it what has to be there.
    if case.query:
        case.query.pop("cursor", None)  # Only the daemon can make one.
    if isinstance(case.body, dict | list):  # No body at all stays so.
        case.body = _with_whole_integers(case.body)
    if isinstance(case.body, dict):
        if case.operation.label == "POST /v1/agents/{name}/limits" and set(case.body.values()) <= {None, False}:
            case.body["tasks_max"] = 100  # One has to be named.
        if "instance" in case.body:
            case.body["instance"] = INSTANCE  # The one that has said hello.
        if case.operation.label == "POST /v1/questions" and not case.body.get("options"):
            case.body["free_text"] = True  # Something has to be possible to answer.
        case.body.pop("check_hosts", None)  # Hosts and sets.
        if case.operation.label == "POST /v1/messages":
            case.body["to"] = "operator"  # Somebody.
            case.body.pop("reply_to", None)  # A message that exists.
        if case.operation.label == "POST /v1/messages/ack":
            case.body["ids"] = []  # Nothing was taken.
        if case.operation.label == "POST /v1/reminders":
            case.body.pop("at", None)  # One time, and not too far ahead.
            case.body.setdefault("after", 1.0)
            case.body["after"] = 1.0 if case.body["after"] is None else case.body["after"]
        if case.operation.label == "POST /v1/questions/{id}/answer":
            case.body.pop("option", None)  # One answer.
            case.body["text"] = "yes"
        if case.operation.label == "POST /v1/agents/{name}/contacts":
            case.body["agent"] = "hm1nd"  # One that there is.
        if case.operation.label == "POST /v1/agents/{name}/owner":
            case.body["owner"] = None  # There are no accounts.
        if case.operation.label in ("POST /v1/agents", "POST /v1/spawn/preview"):
            case.body.pop("owner", None)
            case.body["name"] = f"z{next(_numbers)}"
            case.body["prompt"] = "Text of which the gate allows each character."
            case.body.pop("files", None)  # Base64, and paths that fit together.
            case.body.pop("executables", None)  # Some of the files.
            if case.body.get("agent_nix") is not None:
                case.body.pop("packages", None)  # They go into the agent.nix of the hive's own.
            config = case.body.get("config")
            if isinstance(config, dict):
                config.pop("mcp_servers", None)  # A command or a url, and names that fit a pattern.
                config.pop("repos", None)  # Those that an operator registered.
                config.pop("allowed_hosts", None)  # Hosts and sets.
                for key in ("provider", "features"):
                    config.pop(key, None)  # Those that the settings offer.
                _decide_on_one(config.get("script"))
                config.pop("binary_files", None)  # A path, of which only the last part has rules of its own.
        if case.operation.label == "POST /v1/repositories":
            case.body["name"] = f"z{next(_numbers)}"
            for key in ("source", "token", "ssh_key", "push"):
                case.body.pop(key, None)  # They have to fit together.
            case.body["path"] = "/srv/shop"
        if "/network" in case.operation.path and "host" in case.body:
            case.body["host"] = None if case.body.get("effect") == "open" else "one.example"
        if case.body.get("effect") == "open":
            case.body["hours"] = 1.0  # It always has an end.
        elif "effect" in case.body:
            case.body["host"] = "one.example"
        files = case.body.get("files")
        if case.operation.label == "POST /v1/agents/{name}/configuration" and isinstance(files, dict):
            case.body["files"] = dict.fromkeys(files, "eA==")  # Base64.
        if case.operation.label in ("POST /v1/set-up", "POST /v1/me/password"):
            case.body["password" if "password" in case.body else "new"] = "eight or more"  # Bytes, not characters.
        if case.operation.label == "POST /v1/sessions/revoke-all":
            case.body["person"] = "*"  # Somebody.
        if case.operation.label == "POST /v1/tokens":
            case.body["person"] = "somebody"
        if case.operation.label == "POST /v1/agents/{name}/secrets":
            case.body["value"] = "eA=="  # Base64.
        if case.operation.label == "POST /v1/proposals" and case.body.get("agent") is None:
            case.body["agent"] = "bob"  # The operator has to name one.


def _decide_on_one(script: Any) -> None:
    """Have every decision of a script name an agent and no repository: it names one of the two."""
    for rule in script or ():
        if rule.get("decide"):
            rule["decide"].update(agent="bob", repo=None)


def _with_whole_integers(value: Any) -> Any:
    """JSON Schema does not tell 1.0 from 1; the daemon does, and refuses the former."""
    if isinstance(value, dict):
        return {key: _with_whole_integers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_whole_integers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _tame(case: Case[Any]) -> None:
    """Do not wait long, and start no harness."""
    for part in (case.query, case.body):
        if isinstance(part, dict) and isinstance(wait := part.get("wait_seconds"), int | float):
            part["wait_seconds"] = min(wait, LONGEST_WAIT)
    if case.operation.label == "POST /v1/agents" and isinstance(case.body, dict):
        case.body.setdefault("start", False)
        case.body["start"] = case.body["start"] if not isinstance(case.body["start"], bool) else False


async def check(hive: Daemon, agent: str | None, examples: int) -> None:
    """Exercise the operator's socket or an agent's; see that the requests got as far as they should."""
    place = hive.host_socket if agent is None else hive.core_socket(agent)
    question = await hive.ask("POST", "/v1/questions", {"text": "well?"}, agent="bob")
    for repository in ("web", "old"):
        await hive.ask("POST", "/v1/repositories", {"name": repository, "path": "/srv/web"})
    socket = Socket(place, agent, examples, question["id"])
    never = {"POST /v1/messages/read", *(f"POST {path}" for path in (*STARTING, *NOTHING_TO_DO, *FOR_PAGES))}
    never |= OF_HARNESSES | NO_WORK | NO_ACCOUNT
    if agent == "ann":
        never |= {f"GET /v1/agents/{{name}}/{what}" for what in ("logs", "history", "limits")} | {"POST /v1/agents"}
        never |= {f"POST /v1/agents/{{name}}/{verb}" for verb in ("stop", "destroy")}
    await asyncio.to_thread(socket.exercise, never)
    assert not hive.log_entries("request failed")
    assert socket.refused() <= never


@pytest.mark.parametrize("agent", [None, "ann", "hm1nd"])
async def test_generated_requests(hive_home: Path, agent: str | None) -> None:
    """No generated request makes a socket fail, hang or answer otherwise than its document says."""
    async with small_hive(hive_home, INBOX_LIMIT) as hive:
        await check(hive, agent, 6)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("agent", [None, "ann", "hm1nd"])
async def test_many_generated_requests(hive_home: Path, agent: str | None) -> None:
    """The same for many more requests."""
    async with small_hive(hive_home, INBOX_LIMIT) as hive:
        await check(hive, agent, 150)
