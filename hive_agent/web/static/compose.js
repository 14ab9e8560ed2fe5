// The message box.

import { change } from "./call.js";
import { announce } from "./dialogs.js";
import { byId, say } from "./make.js";

const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Make it work. `sent()` is told of every message that went out. */
export function begin(sent) {
  const box = byId("body");
  const problem = byId("compose-problem");
  // The same until the message is changed: sending again what may have arrived does not send it twice.
  let key = newKey();

  function grow() {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, window.innerHeight * 0.4)}px`;
  }

  async function send() {
    const body = box.value;
    if (!body.trim() || byId("send").disabled) return;
    byId("send").disabled = true;
    problem.hidden = true;
    try {
      await change("send", { body, key });
      if (box.value === body) box.value = "";
      key = newKey();
      grow();
      announce("Sent");
      sent();
    } catch (refused) {
      say(problem, `Not sent: ${refused.whole}`);
      problem.hidden = false;
    } finally {
      byId("send").disabled = false;
    }
  }

  box.addEventListener("input", () => {
    key = newKey();
    grow();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      send();
    }
  });
  byId("compose").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
}
