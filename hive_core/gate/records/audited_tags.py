"""The tags of a subject as the audit table tells of them, compared with those that there are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AuditedTags:
    """The actions of the audit table that tell of the tags of one kind of subject.

    `actions` begins the actions that write a tag, and `end` is the action of the end of a subject, after which its tags
    are gone if `removes` is true of the details.
    """

    actions: str
    end: str
    removes: Callable[[dict[str, Any]], bool]

    def subjects(self, db: sqlite3.Connection) -> set[str]:
        """Return the subjects with audited tags."""
        query = "SELECT DISTINCT subject FROM audit WHERE action LIKE ? AND outcome = 'ok'"
        return {subject for (subject,) in db.execute(query, (f"{self.actions}.%",))}

    def objects(self, db: sqlite3.Connection, subject: str) -> dict[str, str]:
        """Return the objects of a subject's tags, since they were removed last."""
        objects: dict[str, str] = {}
        query = """SELECT action, detail FROM audit WHERE subject = ? AND outcome = 'ok'
            AND (action = ? OR action LIKE ?) ORDER BY id"""
        for action, text in db.execute(query, (subject, self.end, f"{self.actions}.%")):
            try:
                detail = json.loads(text)
                if action != self.end:
                    objects[detail["tag"]] = detail["object"]
                elif self.removes(detail):
                    objects.clear()
            except (ValueError, KeyError, TypeError):
                continue  # The row was changed; the check of the chain reports it.
        return objects


def compare(tags: dict[str, str], audited: dict[str, str]) -> list[str]:
    """Return a sentence for each tag that is not as the audit table tells."""
    problems = []
    for name in sorted(tags.keys() | audited.keys()):
        actual, told = tags.get(name), audited.get(name)
        if actual is None:
            problems.append(f"tag {name} is gone, the audit table tells of it")
        elif told is None:
            problems.append(f"the audit table does not know the tag {name}")
        elif actual != told:
            problems.append(f"tag {name} was moved: the audit table tells of object {told}, it is {actual}")
    return problems
