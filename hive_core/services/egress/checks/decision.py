"""The decision about a host and a port, before anything is looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hive_core.protocol.network.packets import Reason
from hive_core.protocol.network.policy import EgressLimits, EgressPolicy, since_boot
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
    """A policy, prepared for decisions. Its rules end by themselves, by the clock of this process."""

    def __init__(self, policy: EgressPolicy, clock: Callable[[], int] = since_boot) -> None:
        """Raises BadRule, which a policy that was validated does not cause."""
        self.limits: EgressLimits = policy.limits
        self.is_encrypted_hello_allowed = policy.encrypted_hello
        self._policy = policy
        self._clock = clock
        self._compile()

    def refuse(self, host: str, port: int) -> EgressRefusal | None:
        """Return the refusal of a host in its normal spelling and a port, None if a rule allows them."""
        if self._next_end is not None and self._clock() >= self._next_end:
            self._compile()
        if port == SMTP_PORT:
            return EgressRefusal("port", host, port, detail="mail is not sent from agents")
        if host in METADATA_NAMES:
            return EgressRefusal("refused_address", host, port, detail="a metadata service")
        if (rule := self._deny.find(host, port)) is not None:
            return EgressRefusal("denied", host, port, detail=str(rule))
        if self._is_open or self._allow.find(host, port) is not None:
            return None
        return EgressRefusal("no_rule", host, port, missing=missing_rule(host, port))

    def _compile(self) -> None:
        """Arrange the rules that have not ended, and note when the next one does."""
        policy, now = self._policy, self._clock()
        open_ends = [] if policy.open_end is None else [policy.open_end]
        self._allow = compile_entries(_in_force(policy.allow, policy.allow_ends, now))
        self._deny = compile_denied(_in_force(policy.deny, policy.deny_ends, now))
        self._is_open = policy.open and all(now < end for end in open_ends)
        ends = [end for end in (*policy.allow_ends, *policy.deny_ends, *open_ends) if end > now]
        self._next_end = min(ends, default=None)


def _in_force(entries: Sequence[str], ends: Sequence[int], now: int) -> list[str]:
    """Return the entries that hold now; `ends` are those of the last ones."""
    lasting = len(entries) - len(ends)
    timed = zip(entries[lasting:], ends, strict=True)
    return [*entries[:lasting], *(entry for entry, end in timed if now < end)]
