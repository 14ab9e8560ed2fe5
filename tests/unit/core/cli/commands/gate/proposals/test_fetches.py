"""`hive-c0re proposals allow-fetches`, and how fetches are shown."""

from __future__ import annotations

from typing import Any

from hive_core.protocol import AllowFetchesRequest, NetworkFetch, ProposalDetail
from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.fake_host_gate import proposal
from tests.unit.core.cli.run_cli import Program

SHA = "c" * 40
BY_NIX = NetworkFetch(
    name="x.tar", urls=["https://a.example/x", "https://b.example/x"], hash="sha256-x",
    derivation="/nix/store/a-x.tar.drv", program="builtin:fetchurl", by_nix=True,
)  # fmt: skip
BY_PROGRAM = NetworkFetch(
    name="y", urls=["https://a.example/\x1b[2J\ny"], hash="sha256-y", derivation="/nix/store/b-y.drv",
    program="/nix/store/c-bash/bin/bash", by_nix=False,
)  # fmt: skip
SHOWN = """\
Nix itself fetches these, from their URLs and from where those redirect to:
- x.tar
    URL         https://a.example/x
    URL         https://b.example/x
    hash        sha256-x
    derivation  /nix/store/a-x.tar.drv
For these a program of the configuration runs with network. It may contact ANY host, whatever URLs it names:
- y
    URL         https://a.example/\\x1b[2J\\ny
    hash        sha256-y
    derivation  /nix/store/b-y.drv
    program     /nix/store/c-bash/bin/bash
"""


def failed(**changes: Any) -> ProposalDetail:
    """A proposal that failed for two fetches."""
    fields = {"state": "failed", "waits_for": None, "outcome": "the build needs 2:\n- these", "closure": None}
    return proposal(**(fields | {"missing_fetches": [BY_NIX, BY_PROGRAM]} | changes))


async def test_without_commit_it_only_shows(hive: Program, daemon: FakeHost) -> None:
    """The fetches are on stdout, Nix's own first; how to allow them is on stderr. Nothing is changed."""
    daemon.gate.proposals = [failed()]
    ended = await hive.run("proposals", "allow-fetches", "ada", "3")
    assert (ended.code, ended.out) == (0, SHOWN)
    assert ended.err == (
        "to allow exactly these and build again:\n"
        f"  hive-c0re proposals allow-fetches ada/3 --commit {SHA}\n"
    )  # fmt: skip
    assert [method for method, _, _ in daemon.asked] == ["GET"]
    ended = await hive.run("proposals", "allow-fetches", "ada/3", "--json")
    assert ProposalDetail.model_validate(ended.json).missing_fetches == [BY_NIX, BY_PROGRAM]


async def test_with_what_was_allowed_before(hive: Program, daemon: FakeHost) -> None:
    """The fetches that the failed build was allowed are allowed again, so they are shown, too."""
    before = {"by": "operator:alice", "failed": 2, "fetches": [BY_NIX]}
    daemon.gate.proposals = [failed(missing_fetches=[BY_PROGRAM], allowed_fetches=before)]
    assert (await hive.run("proposals", "allow-fetches", "ada", "3")).out == SHOWN


async def test_with_commit_it_allows(hive: Program, daemon: FakeHost) -> None:
    """The permission names the commit; the new proposal is followed until it waits for its decision."""
    daemon.gate.proposals = [failed()]
    daemon.gate.later = [proposal(number=9)]
    ended = await hive.run("proposals", "allow-fetches", "ada", "3", "--commit", SHA)
    assert (ended.code, ended.out) == (0, "ada/9 is built and waits for the operator\n")
    assert ended.err == "ada/9: proposal\nada/9: built\n"
    assert daemon.asked[0] == ("POST", "/v1/proposals/ada/3/allow-fetches", AllowFetchesRequest(commit=SHA))
    ended = await hive.run("proposals", "allow-fetches", "ada", "3", "--commit", SHA, "--no-wait", "--json")
    assert ProposalDetail.model_validate(ended.json).state == "proposal"


async def test_nothing_to_allow(hive: Program, daemon: FakeHost) -> None:
    """Of a proposal that names no fetches there is nothing to show."""
    daemon.gate.proposals = [proposal()]
    ended = await hive.run("proposals", "allow-fetches", "ada", "3", "--json")
    assert (ended.code, ended.out, ended.error["code"]) == (1, "", "no_missing_fetches")


async def test_show_has_the_fetches(hive: Program, daemon: FakeHost) -> None:
    """`proposals show` shows missing fetches with the command, and allowed ones with the operator who allowed them."""
    daemon.gate.proposals = [
        failed(), proposal(number=4, allowed_fetches={"by": "operator:alice", "failed": 3, "fetches": [BY_NIX]})
    ]  # fmt: skip
    out = (await hive.run("proposals", "show", "ada", "3")).out
    indented = "".join(f"  {line}\n" for line in SHOWN.splitlines())
    assert f"Fetches from the network that the build needs and no operator has allowed\n{indented}" in out
    assert '"hive-c0re proposals allow-fetches ada/3"' in out
    out = (await hive.run("proposals", "show", "ada", "4")).out
    assert "Fetches that operator:alice allowed, for want of which ada/3 had failed\n  Nix itself fetches these" in out


async def test_waiting_ends_with_the_fetches(hive: Program, daemon: FakeHost) -> None:
    """A command that waited for a build that needs fetches says how many, and which command shows them."""
    daemon.gate.proposals = []
    daemon.gate.later = [failed()]
    ended = await hive.run("propose", "ada", SHA, "--note", "x")
    assert ended.code == 1
    assert "proposal ada/3 failed: the build needs 2" in ended.err
    assert "- these" not in ended.err
    assert 'see them, and how to allow exactly these, with "hive-c0re proposals allow-fetches ada/3"' in ended.err
