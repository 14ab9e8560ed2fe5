"""Health and figures for those who watch the daemon."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import request

Labels = frozenset[tuple[str, str]]


async def figures(hive: Daemon) -> dict[tuple[str, Labels], float]:
    """Every sample of /metrics by name and labels."""
    reply = await request(hive.host_socket, "GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(reply.body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def labels(**values: str) -> Labels:
    """Labels as `figures` has them."""
    return frozenset(values.items())


async def test_health(hive: Daemon) -> None:
    """/healthz says that the daemon works."""
    reply = await request(hive.host_socket, "GET", "/healthz")
    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_metrics_count_what_happened(hive: Daemon) -> None:
    """Requests, commits, waiting messages and agents are counted as they are."""
    before = await figures(hive)
    for _ in range(3):
        await hive.ask("POST", "/v1/messages", {"to": "bob", "body": "x"}, agent="ann")
    await hive.ask("POST", "/v1/messages", {"to": "operator", "body": "x"}, agent="ann")
    assert (await hive.request("POST", "/v1/messages", {"to": "zoe", "body": "x"}, agent="ann"))[0] == 404
    after = await figures(hive)

    def grown(name: str, **values: str) -> float:
        key = (name, labels(**values))
        return after.get(key, 0) - before.get(key, 0)

    assert grown("hive_requests_total", path="/v1/messages", status="200") == 4
    assert grown("hive_requests_total", path="/v1/messages", status="404") == 1
    assert grown("hive_request_seconds_count", path="/v1/messages") == 5
    assert 0 < grown("hive_request_seconds_sum", path="/v1/messages") < 60
    # Four messages one after another and the refusal's audit row: each a commit of one operation.
    assert grown("hive_commit_operations_count") == 5
    assert grown("hive_commit_operations_sum") == 5
    assert after["hive_unacknowledged", labels(recipient="bob")] == 3
    assert after["hive_unacknowledged", labels(recipient="operator")] == 1
    assert after["hive_unacknowledged", labels(recipient="ann")] == 0
    assert after["hive_agents", labels(lifecycle="stopped")] == 3


async def test_labels_are_bounded(hive: Daemon) -> None:
    """No caller can make up label values: a path counts as its endpoint, unknown ones not at all."""
    for target in ("/v1/agents/nobody", "/v1/agents/NOBODY", "/v1/made-up", "/v1/messages/77/reply"):
        await request(hive.host_socket, "GET", target)
    paths = {dict(names).get("path", "") for _, names in await figures(hive)}
    assert {"/v1/agents/{name}", "/v1/messages/{id}/reply"} <= paths
    assert not {path for path in paths if "made-up" in path or "nobody" in path.lower() or "77" in path}
