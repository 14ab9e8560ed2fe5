// Asking back, and telling of what was refused.

import { byId, make, say } from "./make.js";

let hiding;

/** Show a line at the edge for some seconds. */
export function toast(text, seconds = 4) {
  const place = byId("toast");
  say(place, text);
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (place.hidden = true), seconds * 1_000);
}

/** Most lines that wait to be read out. */
const MOST_LINES = 5;

/** Tell screen readers, and nobody else. */
export function announce(text) {
  const place = byId("said");
  place.append(make("p", {}, text));
  if (place.childElementCount > MOST_LINES) place.firstElementChild.remove();
}

/** What was asked for; if it is refused, say so and give null. */
export async function attempt(asked) {
  try {
    return await asked;
  } catch (refused) {
    toast(refused.whole ?? String(refused), 10);
    return null;
  }
}

/** Whether the person says yes. */
export function confirm(title, text, yes) {
  const dialog = byId("confirm");
  say(byId("confirm-title"), title);
  say(byId("confirm-text"), text);
  say(byId("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
