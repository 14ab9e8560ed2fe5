"""`./dev demo` as a program: run, looked at from outside, and checked for what it leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
DEMO = [sys.executable, str(ROOT / "docs/demo/run.py")]
SECONDS = 100.0
"""Longest that a demo may take here; it takes some seconds."""


def environment(place: Path, **more: str) -> dict[str, str]:
    """A user's environment, without access to Claude Code but what is in `more`."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LD_LIBRARY_PATH") if key in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(place), "HOME": str(place), "TERM": "xterm", **more}


def processes(place: Path) -> list[psutil.Process]:
    """Everything that runs for a demo in `place`: its path is on the command line or in the environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(
                str(place) in text for text in [*process.cmdline(), *process.environ().values()]
            ):
                found.append(process)
    return found


def assert_nothing_left(place: Path) -> None:
    assert processes(place) == []
    assert list(place.iterdir()) == []


def run(place: Path, *arguments: str, limit: float = SECONDS, **more: str) -> subprocess.CompletedProcess[str]:
    """The demo without a terminal."""
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=ROOT,
        env=environment(place, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )


def why_no_namespaces() -> str:
    """Return why the demo can have no network of its own here; empty if it can."""
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    own = ["unshare", "--net", "--mount"] + (["--user", "--map-root-user"] if os.geteuid() else [])
    return "" if subprocess.run([*own, "true"], capture_output=True, check=False).returncode == 0 else "not permitted"


def assert_job_done(shown: str) -> None:
    """The work was submitted, reviewed and landed, and its result shown, in this order."""
    assert_in_order(
        shown,
        "hive-c0re repo add shop",
        "operator → ada",
        r"ada work shop/\d submitted",
        "system → hm1nd",
        r"Review work shop/\d: approve or deny it \(state built\)\.",
        "- tests: passed",
        r"hm1nd work shop/\d approved",
        r"system work shop/\d landed",
        "The result",
        r"^\$ hive-c0re work diff shop/\d$",
        r"^  \+\+\+ b/prices\.py$",
        r"^  \w{7} \(HEAD -> main\) ",
        "^  \\w{7} Prices of orders$",
        "^Done.$",
        r"^ +work +shop/\d landed",
        r"^  hive-c0re run app ",
    )
    assert len(re.findall(r"^ +confinement +(bubblewrap|plain processes, not confined): \S", shown, re.MULTILINE)) == 2


def assert_mended_itself(shown: str) -> None:
    """The check of the first attempt failed, the agent heard of it, and its second attempt passed."""
    assert_in_order(
        shown,
        "ada work shop/1 submitted",
        r"Work shop/1 failed\.",
        r"ERROR: test_is_zero_for_an_empty_order",
        "ada work shop/2 submitted",
        "hm1nd work shop/2 approved",
        "ada → operator  #5 answers #1 Done: shop/2 has landed",
        r"^  \+    return sum\(prices\)$",
    )


def assert_gate_shown(shown: str) -> None:
    """A change was approved and deployed, another one denied with its reason; the sealed agent reaches nothing, until a
    host is approved; its calls of a model are counted, and end with its budget.
    """
    assert_in_order(
        shown,
        "operator → ada",
        "ada changes itself",
        "system → hm1nd",
        r"Review proposal ada/1: approve or deny it \(state built\)\.",
        "allowed_recipients: now hm1nd, operator",
        r"Proposal ada/1 is deployed\.",
        "ada → operator",
        "operator → bob",
        r"Review proposal bob/1: approve or deny it \(state built\)\.",
        "tools: added Bash, Write",
        r"Proposal bob/1 was denied by hm1nd\.",
        "> bob reads and writes messages",
        "bob → operator",
        "The seal",
        r"/dev/tcp/1\.1\.1\.1/443: Network is unreachable",
        "ls: cannot access .*/agents/bob/state': No such file or directory",
        "touch: .*: Read-only file system",
        r"^\$ hive-c0re exec ada -- curl .*prices\.example\.org/$",
        r"^  hyperhive: prices\.example\.org is not among .* use the tool request_network",
        "operator → ada",
        r"^ +ada asks to reach a host: approve or deny its request 1\.$",
        r"^\$ hive-c0re net ada$",
        r'^  "prices\.example\.org:80" +1 .* missing: prices\.example\.org$',
        r"^\$ hive-c0re net ada approve 1 ",
        "Your request 1 for the network is approved",
        r"ada → operator .* Thank you: my request 1 is approved\.",
        r"^\$ hive-c0re exec ada -- curl .*prices\.example\.org/$",
        *(["^  hyperhive: prices"] if why_no_namespaces() else ["^  apples 120$"]),
        r"^\$ hive-c0re exec ada -- curl .*127\.0\.0\.1:3129/standin/v1/messages$",
        r'^  \{.*"Apples cost 120 cents\."',
        r'^  \{.*"hyperhive budget: ada\'s limit of calls of 1 in all does not allow this call\.',
        r"^\$ hive-c0re usage ada$",
        r"^  total +1 +\d+ +0 +5 +\$0\.0001$",
        r"^ +proposal +ada/1 deployed, approved by hm1nd$",
        r"^ +proposal +bob/1 denied: bob ",
        r"^ +network +prices\.example\.org refused, asked for",
        r"^ +ledger +1 call of ada's for \$0\.0001\d\d, ",
    )


def assert_in_order(shown: str, *patterns: str) -> None:
    """Each pattern is found after the one before it."""
    at = 0
    for pattern in patterns:
        found = re.compile(pattern, re.MULTILINE).search(shown, at)
        assert found is not None, f"{pattern!r} is not shown after what comes before it:\n{shown}"
        at = found.end()
