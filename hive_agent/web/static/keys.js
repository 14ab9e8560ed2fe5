// Single keys, for who has no mouse at hand. They do nothing while something is typed, and can be switched off: a key
// that is spoken or hit by mistake must not act (WCAG 2.1.4).

import { change } from "./call.js";
import { attempt, confirm } from "./dialogs.js";
import { byId } from "./make.js";

const OFF = "hive-keys-off";

/** Make them work. `transcript` has the turns, `toEnd` goes to the newest. */
export function begin(transcript, toEnd) {
  const acts = {
    "/": () => byId("body").focus(),
    j: () => transcript.step(1),
    k: () => transcript.step(-1),
    n: toEnd,
    q: () => byId("question-list").querySelector("button, input")?.focus(),
    x: () => cancel(transcript.running),
    "?": show,
  };
  const box = byId("keys-on");
  box.checked = localStorage.getItem(OFF) === null;
  box.addEventListener("change", () => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
  byId("keys-open").addEventListener("click", show);
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat && event.key === "x") return;
    if (!box.checked && event.key !== "?") return;
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function show() {
  byId("keys").showModal();
}

async function cancel(turn) {
  if (!turn) return;
  const text = "It is stopped where it is. Its messages wait until you retry or skip it.";
  if (await confirm(`Cancel turn ${turn.id}?`, text, "Cancel it")) attempt(change("cancel"));
}
