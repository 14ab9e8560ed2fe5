"""A harness that can be killed at any moment: `python consumer.py SOCKET LOG SEED [CODE...]`.

Speaks the protocol of core.sock and appends what it was given, and what its acknowledgements were answered, to a log
that outlives it: JSON lines, each written at once. Requests that are refused with a CODE are repeated. The standard
library alone, so that it starts quickly. SIGTERM asks it to acknowledge what it holds and to end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sys
import time
import uuid
from typing import Any

Json = dict[str, Any]
_PAUSE = 0.02
_MOST_HELD = 100


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("hive", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Consumer:
    def __init__(self, path: str, log: str, seed: str, *repeatable: str) -> None:
        self._repeatable = {"stopping", *repeatable}
        self._connection = Unix(path)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._random = random.Random(seed)
        self._held: list[int] = []
        self._instance = ""
        self._stopping = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def run(self) -> None:
        self._hello()
        while not self._stopping:
            self._receive()
            self._settle()
        if self._held:
            self._acknowledge(list(self._held))

    def _hello(self) -> None:
        self._instance = str(uuid.uuid4())
        self._held = []
        self._note(event="hello", instance=self._instance)
        self._call("/v1/harness/hello", {"version": "test"})

    def _receive(self) -> None:
        wait = 0 if self._held else 0.5
        request = {"wait_seconds": wait, "max": self._random.randint(1, 20), "holding": self._held}
        _, _, answer = self._call("/v1/messages/receive", request)
        given = answer.get("deliveries", [])
        if given:
            items = [[item["id"], item["sender"], item["body"], item["redelivered"]] for item in given]
            self._note(event="delivered", items=items)
            self._held += [item["id"] for item in given]

    def _settle(self) -> None:
        """Mostly acknowledge all that is held; at times only some, or hand it back, or keep it for a while."""
        if not self._held:
            return
        time.sleep(self._random.random() * 0.01)
        choice = self._random.random()
        if choice < 0.7 or len(self._held) > _MOST_HELD:
            self._acknowledge(list(self._held))
        elif choice < 0.9:
            self._acknowledge(self._random.sample(self._held, self._random.randint(1, len(self._held))))
        elif choice < 0.95:
            self._call("/v1/messages/release", {"ids": None})
            self._held = []

    def _acknowledge(self, ids: list[int]) -> None:
        began, ended, answer = self._call("/v1/messages/ack", {"ids": ids})
        if "ids" in answer:
            self._note(event="acked", asked=ids, ids=answer["ids"], began=began, ended=ended)
            self._held = [number for number in self._held if number not in ids]

    def _call(self, path: str, request: Json) -> tuple[int, int, Json]:
        """Ask until there is an answer; with it, when the attempt that was answered began and ended (ms)."""
        while True:
            began = milliseconds()
            try:
                body = json.dumps({"instance": self._instance, **request})
                self._connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = self._connection.getresponse()
                answer = json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError):
                self._connection.close()
                time.sleep(_PAUSE)
                continue
            if response.status == 200:
                return began, milliseconds(), answer
            code = answer["error"]["code"]
            if code not in self._repeatable:
                self._note(event="refused", path=path, code=code, message=answer["error"]["message"])
                sys.exit(1)
            time.sleep(_PAUSE)

    def _note(self, **entry: object) -> None:
        os.write(self._log, json.dumps(entry).encode() + b"\n")


if __name__ == "__main__":
    Consumer(*sys.argv[1:]).run()
