"""Valid agent names and reserved ones, names of repositories and people, and of the type of a stream.

An agent's name becomes a container name (`h-<name>`), a directory, a socket path and a git ref, so the
alphabet is the one in which all of these mean the same thing. nixos-container allows 11 characters, of which
the `h-` prefix takes two. A hyphen stands inside only: a name is also a label of a host name, and `-x` would be an
option of a program.
"""

from __future__ import annotations

import re

from hive_core.text import shown

MANAGER = "hm1nd"
OPERATOR = "operator"
SYSTEM = "system"
EVERYONE = "*"
PERSON = "person:"
"""Begins the name of a person as a party. No agent has a colon in its name."""

NAME = "[a-z](?:[a-z0-9-]{0,7}[a-z0-9])?"
"""Regular expression of a name, for use in others."""
NAME_PATTERN = f"^{NAME}$"
RECIPIENT_PATTERN = rf"^({NAME}|\*)$"
ADDRESS_PATTERN = rf"^(@[a-z0-9_]{{1,32}}|{NAME}|\*)$"
"""A recipient, or `@label` for the sender of a message that a script remembers."""
NAME_RULE = "1 to 9 characters a-z, 0-9 and -, a letter first and no - last"
RESERVED = frozenset({MANAGER, OPERATOR, SYSTEM, "all"})

_NAME = re.compile(NAME)

STREAM_TYPE = "application/x-hive-stream"
"""The type of a body that is no JSON. A browser sends it to no other site without the server's consent, as JSON."""
REPOSITORY_PATTERN = r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"
"""Names of repositories: they become names of directories and parts of URLs."""
_REPOSITORY = re.compile(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?")


def is_agent_name(name: str) -> bool:
    """Return True if `name` may be given to a new agent."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def is_person(name: str) -> bool:
    """Return True if `name` is that of a person as a party, such as `person:anna`."""
    return name.startswith(PERSON)


def container_name(name: str) -> str:
    """Return the name of the agent's container; the manager's is its own name."""
    return name if name == MANAGER else f"h-{name}"


def why_not(name: str) -> str:
    """Return a sentence that says why `name` is no agent name; `is_agent_name` must be false."""
    if name in RESERVED:
        return f"the name {name!r} belongs to the hive itself"
    if not name:
        return "the name is empty"
    if len(name) > 9:
        return f"the name {shown(name)} has {len(name)} characters, at most 9 are allowed"
    if name.endswith("-"):
        return f"the name {shown(name)} ends with a hyphen"
    return f"the name {shown(name)} may hold only a-z, 0-9 and hyphens and must start with a letter"


def is_repository_name(name: str) -> bool:
    """Return True if a repository may have this name."""
    return _REPOSITORY.fullmatch(name) is not None


def why_no_repository_name(name: str) -> str:
    """Return a sentence that says why `name` is no name of a repository; `is_repository_name` must be false."""
    if not name:
        return "the name is empty"
    if len(name) > 32:
        return f"the name {shown(name)} has {len(name)} characters, at most 32 are allowed"
    return f"the name {shown(name)} may hold only a-z, 0-9 and hyphens, a letter first and no hyphen last"


PERSON_PATTERN = REPOSITORY_PATTERN
"""Names of people: those of agents, but for their length."""
_NOT_FOR_PEOPLE = RESERVED | {
    *("hive", "host", "visitor", "person", "agent", "manager", "everyone", "nobody", "none", "me"),
}
"""Words that would be misread as somebody's name."""


def is_person_name(name: str) -> bool:
    """Return True if an account of a person may have this name."""
    return _REPOSITORY.fullmatch(name) is not None and name not in _NOT_FOR_PEOPLE


def why_no_person_name(name: str) -> str:
    """Return a sentence that says why `name` is no name of an account; `is_person_name` must be false."""
    if name in _NOT_FOR_PEOPLE:
        return f"the name {name!r} has a meaning of its own in a hive"
    return why_no_repository_name(name)


WORK_WORDS = {"proposal": "submitted", "building": "checking", "built": "checked", "deployed": "landed"}
"""States of work in the words for people; a state that is not among them is its own word."""
