// The live flow: events as they come, and again after every break, from where it was.

import { key, read } from "./call.js";

const KINDS = ["now", "state", "turn", "entry", "snapshot", "inbox"];
const LONGEST = 30_000;

/** Watch. `handle(kind, data)` gets every event once; `connected(yes, refusal)` how the connection is. */
export function watch(handle, connected) {
  let last = "";
  let pause = 1_000;

  function open() {
    const after = last ? `&after=${encodeURIComponent(last)}` : "";
    const source = new EventSource(`events?key=${encodeURIComponent(key() ?? "")}${after}`);
    source.onopen = () => {
      pause = 1_000;
      connected(true);
    };
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        last = event.lastEventId;
        handle(kind, JSON.parse(event.data));
      });
    }
    // While it connects again by itself, with the last id, there is nothing to do.
    source.onerror = () => {
      connected(false);
      if (source.readyState === EventSource.CLOSED) again();
    };
  }

  async function again() {
    try {
      await read("now");
      connected(false);
    } catch (refused) {
      connected(false, refused);
      // Another window may sign in: then there is a new key.
      if (refused.code === "no_session") return addEventListener("storage", open, { once: true });
    }
    setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST);
  }

  open();
}
