"""The decision about a host and a port, before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass

from hive_core.protocol.network.packets import Reason
from hive_core.protocol.network.policy import EgressLimits, EgressPolicy
from hive_core.protocol.network.rules import SMTP_PORT, compile_denied, compile_entries, missing_rule
from hive_core.services.egress.checks.metadata_services import METADATA_NAMES


@dataclass(frozen=True)
class EgressRefusal:
    """A request that was refused, and why. `missing` is the rule that would help; `detail` completes the reason."""

    reason: Reason
    host: str = ""
    port: int = 0
    missing: str = ""
    detail: str = ""


class Decider:
    """A policy, prepared for decisions."""

    def __init__(self, policy: EgressPolicy) -> None:
        """Raises BadRule, which a policy that was validated does not cause."""
        self.limits: EgressLimits = policy.limits
        self.is_encrypted_hello_allowed = policy.encrypted_hello
        self._allow = compile_entries(policy.allow)
        self._deny = compile_denied(policy.deny)
        self._is_open = policy.open

    def refuse(self, host: str, port: int) -> EgressRefusal | None:
        """Return the refusal of a host in its normal spelling and a port, None if a rule allows them."""
        if port == SMTP_PORT:
            return EgressRefusal("port", host, port, detail="mail is not sent from agents")
        if host in METADATA_NAMES:
            return EgressRefusal("refused_address", host, port, detail="a metadata service")
        if (rule := self._deny.find(host, port)) is not None:
            return EgressRefusal("denied", host, port, detail=str(rule))
        if self._is_open or self._allow.find(host, port) is not None:
            return None
        return EgressRefusal("no_rule", host, port, missing=missing_rule(host, port))
