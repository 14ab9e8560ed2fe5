"""The table `work_comments`."""

from __future__ import annotations

import sqlite3

from hive_core.infra.database.database import milliseconds, to_datetime
from hive_core.protocol import CommentOnWork, WorkComment


def insert(db: sqlite3.Connection, repo: str, number: int, author: str, request: CommentOnWork) -> WorkComment:
    """Store a remark and return it."""
    at = milliseconds()
    cursor = db.execute(
        "INSERT INTO work_comments (repo, number, at, author, path, line, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (repo, number, at, author, request.path, request.line, request.text),
    )
    return WorkComment(
        id=cursor.lastrowid or 0,
        by=author,
        at=to_datetime(at),
        path=request.path,
        line=request.line,
        text=request.text,
    )


def of_work(db: sqlite3.Connection, repo: str, number: int) -> list[WorkComment]:
    """Return the remarks on a proposal, the oldest first."""
    query = "SELECT id, author, at, path, line, text FROM work_comments WHERE repo = ? AND number = ? ORDER BY id"
    return [
        WorkComment(id=key, by=author, at=to_datetime(at), path=path, line=line, text=text)
        for key, author, at, path, line, text in db.execute(query, (repo, number))
    ]


def count(db: sqlite3.Connection, repo: str, number: int, author: str) -> int:
    """Return the number of remarks of a party on a proposal."""
    query = "SELECT count(*) FROM work_comments WHERE repo = ? AND number = ? AND author = ?"
    (found,) = db.execute(query, (repo, number, author)).fetchone()
    return int(found)


def delete(db: sqlite3.Connection, repo: str) -> None:
    """Remove all remarks on work for a repository."""
    db.execute("DELETE FROM work_comments WHERE repo = ?", (repo,))
