"""Which texts are rules of the network, and the sets that are shipped."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from hive_core.protocol.network.named_sets import NAMED_SETS
from hive_core.protocol.network.packets import FROM_EGRESS, MAX_PACKET, TO_EGRESS, AgentPacket, RefusedPacket
from hive_core.protocol.network.policy import MAX_ENDS, MAX_ENTRIES, EgressPolicy
from hive_core.protocol.network.rules import BadRule, compile_entries, normal_entry, parse_entry
from hive_core.protocol.network.services import EgressService


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("*.com", "one label"), ("*.co.uk", "names of everybody"), ("*.github.io", "names of everybody")),
        *(
            ("*.s3.amazonaws.com", "names of everybody"),
            ("*.nosuchtld", "one label"),
            ("*.*.example.org", "not a name"),
        ),
        *(("127.0.0.1", "an address"), ("2130706433.", "an address"), ("[::1]:443", "an address")),
        *(("mail.example.org:25", "port 25"), ("example.org:0", "port"), ("example.org:65536", "port")),
        *(("example.org:", "port"), ("example.org:443x", "port"), ("example.org:0443", "port"), ("a.local", "machine")),
        *(("localhost", "no rule and no set"), ("everything", "no rule and no set"), ("", "no rule and no set")),
        *(("a b.org", "not a name"), ("http://example.org", "port"), ("example.org/x", "not a name")),
        *(("user@example.org", "not a name"), ("-x.org", "not a name"), ("a..org", "not a name"), ("*", "no rule")),
        *(("ex\u00adample.org", "not seen"), ("\u2488org", "no rule"), (f"{'a.' * 130}org", "253")),
    ],
)
def test_what_is_no_rule_is_refused_in_words(text: str, why: str) -> None:
    """A text that would cover too much, or that is no name, is refused with the reason."""
    with pytest.raises(BadRule) as refused:
        parse_entry(text)
    assert why in str(refused.value) and str(refused.value).isascii()


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        *(("Crates.IO.", "crates.io"), ("b\u00fccher.example.org", "xn--bcher-kva.example.org"), ("npm", "npm")),
        *(("*.Debian.org:8443", "*.debian.org:8443"), ("*.example.co.uk", "*.example.co.uk"), ("_x.org", "_x.org")),
    ],
)
def test_rules_have_one_spelling(text: str, normal: str) -> None:
    """Case, international names and a dot at the end make no other rule."""
    assert normal_entry(text) == normal


def test_sets_hold_rules() -> None:
    """Every set that is shipped can be read, and covers what it is for."""
    assert set(NAMED_SETS) == {"pypi", "npm", "debian", "github", "nix-cache", "anthropic", "openai", "google"}
    every = compile_entries(NAMED_SETS)
    for host, port in [
        *((NAMED_SETS["pypi"][0], 443), (NAMED_SETS["npm"][0], 443), ("deb.debian.org", 80), ("github.com", 22)),
        *(("cache.nixos.org", 443), ("api.anthropic.com", 443), ("api.openai.com", 443)),
        ("generativelanguage.googleapis.com", 443),
    ]:
        assert every.find(host, port) is not None
    assert every.find("example.org", 443) is None and every.find("api.github.com", 22) is None


def test_a_policy_fits_into_a_packet() -> None:
    """The longest policy that is accepted is a packet, and a longer one is refused."""
    name, host = "a" * 40, ".".join(["h" * 62] * 4)
    entries = [f"{name}.{number:04}.org" for number in range(MAX_ENTRIES)]
    services = {f"{'s' * 31}{number}": EgressService(port=3200, address=f"{host}:65535") for number in range(10)}
    ends = [10**13] * MAX_ENDS
    policy = EgressPolicy(allow=entries, allow_ends=ends, deny=entries, deny_ends=ends, services=services)
    packet = AgentPacket(name="ada", policy=policy)
    assert len(packet.model_dump_json().encode()) <= MAX_PACKET
    assert TO_EGRESS.validate_json(packet.model_dump_json()) == packet
    with pytest.raises(ValidationError, match="characters"):
        EgressPolicy(allow=[f"{name}.{name}.{number}.org" for number in range(MAX_ENTRIES)])
    with pytest.raises(ValidationError, match="public suffix"):
        EgressPolicy(allow=["*.co.uk"])


def test_packets_are_read_leniently() -> None:
    """A field that an older program does not know does not keep it from reading the rest."""
    text = RefusedPacket(agent="ada", host="a.org", port=443, reason="no_rule").model_dump_json()
    packet = FROM_EGRESS.validate_json(text[:-1] + ', "new": 1}')
    assert isinstance(packet, RefusedPacket) and packet.host == "a.org"
