"""What must hold after any number of crashes, checked on what was seen from outside and on what the database holds.

Pure: every function takes evidence and gives the broken promises, in words.

"None is acknowledged twice" means: the daemon says of a message at most once that an acknowledgement changed it; what
it has answered is final, so the message is never handed out again; and a repeated acknowledgement (the first answer
was lost with the daemon) changes nothing, not even the time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Entry = dict[str, Any]


class Accepted(NamedTuple):
    """A send whose sender heard ok."""

    id: int
    body: str
    recipients: tuple[str, ...]


class Stored(NamedTuple):
    """One row of `messages`."""

    id: int
    sender: str
    body: str


class Deliverable(NamedTuple):
    """One row of `deliveries`; `acknowledged_at` in milliseconds."""

    message: int
    recipient: str
    acknowledged_at: int | None


@dataclass
class Evidence:
    """`logs` are the consumers', by agent, oldest entry first; `repeated` are bodies that were sent until heard ok.

    Without `same_clock` the times of the daemon and of the consumers cannot be compared.
    """

    accepted: Sequence[Accepted]
    repeated: frozenset[str]
    stored: Sequence[Stored]
    deliveries: Sequence[Deliverable]
    logs: Mapping[str, Sequence[Entry]] = field(default_factory=dict)
    same_clock: bool = True


def problems(evidence: Evidence) -> list[str]:
    """All broken promises."""
    found = [*stored_as_promised(evidence)]
    for agent, log in evidence.logs.items():
        senders = {row.id: row.sender for row in evidence.stored}
        rows = {row.message: row.acknowledged_at for row in evidence.deliveries if row.recipient == agent}
        checks = [
            refusals(log),
            deliveries(log, rows),
            order(log, senders),
            acknowledgements(log, rows, same_clock=evidence.same_clock),
        ]
        found += [f"{agent}: {problem}" for check in checks for problem in check]
    return found


def stored_as_promised(evidence: Evidence) -> Iterable[str]:
    """What was acknowledged to its sender is there as it was sent, for all its recipients, and nothing is twice."""
    bodies = {row.id: row.body for row in evidence.stored}
    recipients: defaultdict[int, set[str]] = defaultdict(set)
    for row in evidence.deliveries:
        recipients[row.message].add(row.recipient)
    for sent in evidence.accepted:
        if bodies.get(sent.id) != sent.body:
            yield f"message {sent.id} ({sent.body}) was acknowledged to its sender and is lost"
        elif recipients[sent.id] != set(sent.recipients):
            yield f"message {sent.id} was to go to {sent.recipients}, and went to {recipients[sent.id]}"
    heard = Counter(sent.body for sent in evidence.accepted)
    for body in evidence.repeated - heard.keys():
        yield f"{body} was repeated until its sender heard ok, and it never did"
    for (sender, body), count in Counter((row.sender, row.body) for row in evidence.stored).items():
        if count > 1:
            yield f"{body} from {sender} is stored {count} times"


def refusals(log: Sequence[Entry]) -> Iterable[str]:
    """A harness that does nothing wrong is refused nothing."""
    for entry in log:
        if entry["event"] == "refused":
            yield f"{entry['path']} was refused: {entry['code']}, {entry['message']}"


def deliveries(log: Sequence[Entry], rows: dict[int, int | None]) -> Iterable[str]:
    """Everything stored for the agent was handed out, marked if it may have been seen, and not after its end."""
    seen: set[int] = set()
    done: set[int] = set()
    for entry in log:
        if entry["event"] == "acked":
            done |= set(entry["asked"])
        for number, _, _, redelivered in entry.get("items", []):
            if number in done:
                yield f"message {number} was handed out after it was acknowledged"
            if number in seen and not redelivered:
                yield f"message {number} was handed out again without being marked"
            seen.add(number)
    for number in sorted(rows.keys() - seen):
        yield f"message {number} was never delivered"
    for number in sorted(seen - rows.keys()):
        yield f"message {number} was delivered, but is not in the database"


def order(log: Sequence[Entry], senders: dict[int, str]) -> Iterable[str]:
    """The first deliveries from each sender are in the order in which its messages were stored."""
    seen: set[int] = set()
    last: defaultdict[str, int] = defaultdict(int)
    for entry in log:
        for number, sender, _, _ in entry.get("items", []):
            if number in seen:
                continue
            seen.add(number)
            if senders.get(number, sender) != sender:
                yield f"message {number} is from {senders[number]}, and was delivered as from {sender}"
            if number < last[sender]:
                yield f"message {number} from {sender} came after {last[sender]}"
            last[sender] = max(last[sender], number)


def acknowledgements(log: Sequence[Entry], rows: dict[int, int | None], *, same_clock: bool = True) -> Iterable[str]:
    """Every message is acknowledged, by one acknowledgement that was answered so or whose answer was lost."""
    answered: Counter[int] = Counter()
    asked: set[int] = set()
    for entry in log:
        if entry["event"] != "acked":
            continue
        asked |= set(entry["asked"])
        answered.update(entry["ids"])
        for number in entry["asked"]:
            at = rows.get(number)
            if at is None:
                yield f"message {number} was answered as acknowledged, and the database does not know"
            elif not same_clock:
                continue
            elif number in entry["ids"] and not entry["began"] <= at <= entry["ended"]:
                yield f"message {number} was acknowledged by another request than the one that was told so"
            elif number not in entry["ids"] and at > entry["began"]:
                yield f"message {number} was acknowledged again by a request that was told it was not"
    for number, count in answered.items():
        if count > 1:
            yield f"message {number} was acknowledged {count} times"
    for number, at in rows.items():
        if at is None:
            yield f"message {number} was never acknowledged"
    for number in sorted(asked - rows.keys()):
        yield f"message {number} was acknowledged, but is not in the database"


def in_sequence(bodies: Sequence[str], sent: Sequence[str]) -> Iterable[str]:
    """A chain of agents passes everything on, once, in order."""
    if list(bodies) != list(sent):
        for number, (arrived, expected) in enumerate(zip(bodies, sent, strict=False)):
            if arrived != expected:
                yield f"number {number} of the chain is {arrived}, not {expected}"
                return
        yield f"{len(sent)} messages went into the chain, {len(bodies)} came out"
