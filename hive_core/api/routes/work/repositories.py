"""Endpoints of the operator's repositories. What concerns checks and credentials is on `host.sock` only."""

from __future__ import annotations

from functools import partial

from hive_core.api.bodies import BodyStream
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError, bad_request
from hive_core.infra.concurrency.threads import REPOSITORIES
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    AddRepositoryRequest,
    Done,
    FetchedRepository,
    FetchRepositoryRequest,
    HostKeys,
    HostKeysRequest,
    RemoveRepositoryRequest,
    RepositoryList,
    RepositoryRefs,
    RepositoryStatus,
    SendRepositoryQuery,
    SetRepositoryRequest,
)
from hive_core.protocol.names import STREAM_TYPE, is_repository_name, why_no_repository_name
from hive_core.work.repositories.fetch import Stream
from hive_core.work.repositories.refs import OfferedRefs, read_offered
from hive_core.work.repositories.registry import Repositories
from hive_core.work.repositories.status import RepositoryViews, host_key_of

_ALL = "/v1/repositories"
_ONE = f"{_ALL}/{{repo}}"
_LINE = 64
_VALUES = 1_200
"""Values of a body: 20 checks of 50 words."""
_REF_BYTES = 300
"""Bytes of a line of a ref at most, on average."""


def repository_name(call: ApiCall) -> str:
    """Return the repository in the path, which may not exist. Raises HiveError `bad_repository_name`."""
    name = call.path["repo"]
    if not is_repository_name(name):
        raise HiveError("bad_repository_name", why_no_repository_name(name))
    return name


def repository_views(repositories: Repositories, github_client_id: str) -> list[Endpoint]:
    """Return the endpoints that show repositories and fetch from their upstreams."""
    views = RepositoryViews(repositories)

    async def listing(call: ApiCall) -> RepositoryList:
        found = [_seen(await views.status(record), call) for record in repositories.records()]
        return RepositoryList(repositories=found, github_client_id=github_client_id)

    async def show(call: ApiCall) -> RepositoryStatus:
        return _seen(await views.status(repositories.record(repository_name(call))), call)

    async def held_refs(call: ApiCall) -> RepositoryRefs:
        return RepositoryRefs(refs=await views.refs(repositories.record(repository_name(call))))

    async def fetch(call: ApiCall) -> FetchedRepository:
        name, take = repository_name(call), call.read(FetchRepositoryRequest).take_upstream
        result = await repositories.fetch(name, call.caller.actor, take_upstream=take)
        status = _seen(await views.status(repositories.record(name)), call)
        return FetchedRepository(repository=status, before=result.before, refs_changed=result.refs_changed)

    sees = EndpointRule("viewer", "listing")
    return [
        Endpoint("GET", _ALL, "All repositories", listing, RepositoryList, load="heavy", rule=sees),
        Endpoint("GET", _ONE, "One repository", show, RepositoryStatus, rule=sees),
        Endpoint(
            "GET", f"{_ONE}/refs", "Upstream's branches and tags", held_refs, RepositoryRefs, load="heavy", rule=sees
        ),
        Endpoint(
            "POST",
            f"{_ONE}/fetch",
            "Fetch from upstream",
            fetch,
            FetchedRepository,
            FetchRepositoryRequest,
            rule=EndpointRule("operator"),
        ),
    ]


def repository_changes(repositories: Repositories, refs: int) -> list[Endpoint]:
    """Return the endpoints that register, change and send repositories. `refs` is the most that one may have."""
    views = RepositoryViews(repositories)

    async def add(call: ApiCall) -> RepositoryStatus:
        return await views.status(await repositories.add(call.read(AddRepositoryRequest), call.caller.actor))

    async def change(call: ApiCall) -> RepositoryStatus:
        name = repository_name(call)
        return await views.status(await repositories.set(name, call.read(SetRepositoryRequest), call.caller.actor))

    async def remove(call: ApiCall) -> Done:
        force = call.read(RemoveRepositoryRequest).force
        await repositories.remove(repository_name(call), call.caller.actor, force=force)
        return Done()

    async def receive(call: ApiCall) -> FetchedRepository:
        name, body = repository_name(call), BodyStream(call.raw)
        repositories.record(name)
        actor, take = call.caller.actor, call.read(SendRepositoryQuery).take_upstream
        offered = await _read_refs(body, refs)
        stream = Stream(offered, body.pass_on if await body.read_line(_LINE) == b"pack" else None)
        result = await repositories.receive(name, stream, actor, take_upstream=take)
        status = await views.status(repositories.record(name))
        return FetchedRepository(repository=status, before=result.before, refs_changed=result.refs_changed)

    async def host_keys(call: ApiCall) -> HostKeys:
        source, lines = await repositories.host_keys(call.read(HostKeysRequest).source)
        return HostKeys(host=source.known_host, keys=[host_key_of(line) for line in lines])

    return [
        Endpoint(
            "POST",
            _ALL,
            "Register a repository",
            add,
            RepositoryStatus,
            AddRepositoryRequest,
            most_values=_VALUES,
            most_bytes=MAX_REQUEST_BYTES,
        ),
        Endpoint("POST", "/v1/host-keys", "Ask an SSH server for its keys", host_keys, HostKeys, HostKeysRequest),
        Endpoint(
            "POST",
            f"{_ONE}/set",
            "Change a repository",
            change,
            RepositoryStatus,
            SetRepositoryRequest,
            most_values=_VALUES,
            most_bytes=MAX_REQUEST_BYTES,
        ),
        Endpoint("POST", f"{_ONE}/remove", "Remove a repository", remove, Done, RemoveRepositoryRequest),
        Endpoint(
            "POST",
            f"{_ONE}/send",
            f"Send a repository that the daemon does not read ({STREAM_TYPE})",
            receive,
            FetchedRepository,
            query=SendRepositoryQuery,
            load="follows",
            streams=True,
        ),
    ]


def _seen(status: RepositoryStatus, call: ApiCall) -> RepositoryStatus:
    """Return a repository without the agents of which the caller may not know."""
    sees = call.caller.sees
    if sees.whole:
        return status
    kind, _, reviewer = status.review.partition(":")
    review = status.review if not reviewer or sees(reviewer) else f"{kind}:"
    return status.model_copy(update={"agents": [name for name in status.agents if sees(name)], "review": review})


async def _read_refs(body: BodyStream, most: int) -> OfferedRefs:
    """Read a line with a length, and so many bytes in the form of `git ls-remote --symref`."""
    length = await body.read_line(_LINE)
    if not length.isdigit() or int(length) > most * _REF_BYTES:
        raise bad_request("the length of the list of refs is no number, or too large", "see docs/work.md")
    text = await body.read_exactly(int(length))
    lines = text.decode(errors="replace").splitlines()
    return await REPOSITORIES.run(partial(read_offered, lines, most))
