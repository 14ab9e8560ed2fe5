// Keeps the live parts of this page up to date: elements with the attribute data-live="NAME" or "NAME?key=value".
// The server makes their HTML and sends it whenever it changes.

import { Feed } from "./feed.js";

const policy = window.trustedTypes?.createPolicy("hive", {
  createHTML: (html) => html,
  createScriptURL: (address) => {
    if (address !== new URL("./live_worker.js", import.meta.url).href) throw new TypeError("no script of ours");
    return address;
  },
});
const banner = document.getElementById("connection");

// Puts HTML that our own server has made in the place of what an element contains. Nothing else may call it.
export function putFragment(element, html) {
  const focused = document.activeElement?.id;
  const opened = new Set([...element.querySelectorAll("details[open][id]")].map((each) => each.id));
  element.innerHTML = policy ? policy.createHTML(html) : html;
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

// Makes elements of HTML that our own server has made. Nothing else may call it, either.
export function makeFragment(html) {
  const template = document.createElement("template");
  template.innerHTML = policy ? policy.createHTML(html) : html;
  return template.content;
}

function hasUnsentText(piece) {
  return [...piece.querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue);
}

const CONTROLS = "a, button, input, select, textarea, summary";

// Puts changed elements in the place of those with the same id, removes those that are not in `order`, and sorts the
// rest. What somebody is typing into stays as it is, and the keyboard stays at the same control.
export function putPieces(element, order, changed) {
  const made = new Map([...makeFragment(Object.values(changed).join("")).children].map((piece) => [piece.id, piece]));
  const shown = new Map([...element.children].map((piece) => [piece.id, piece]));
  const focused = document.activeElement;
  const holder = [...element.children].find((piece) => piece.contains(focused));
  const place = holder ? [...holder.querySelectorAll(CONTROLS)].indexOf(focused) : -1;
  for (const [id, piece] of shown) if (!order.includes(id)) piece.remove();
  order.forEach((id, at) => {
    const before = shown.get(id);
    const piece = before && hasUnsentText(before) ? before : (made.get(id) ?? before);
    if (!piece) return;
    if (before && piece !== before) {
      for (const opened of before.querySelectorAll("details[open][id]")) {
        piece.querySelector(`#${CSS.escape(opened.id)}`)?.setAttribute("open", "");
      }
      before.replaceWith(piece);
    }
    if (element.children[at] !== piece) element.insertBefore(piece, element.children[at] ?? null);
  });
  if (!holder || document.activeElement === focused) return;
  const controls = document.getElementById(holder.id)?.querySelectorAll(CONTROLS) ?? [];
  const control = (focused.id && document.getElementById(focused.id)) || controls[place];
  control?.focus({ preventScroll: true });
}

function showProblem(text) {
  banner.hidden = !text;
  if (!text) banner.textContent = "";
  else if (!banner.textContent.includes(text)) {
    const since = new Date().toLocaleTimeString();
    banner.textContent = `${text}. This page shows the state of ${since}, and goes on by itself.`;
  }
  document.body.classList.toggle("stale", Boolean(text));
}

const receivers = {
  part: ({ part, html }) => forEach(part, (element) => putFragment(element, html)),
  pieces: ({ part, order, changed }) => forEach(part, (element) => putPieces(element, order, changed)),
  connection: ({ problem }) => showProblem(problem),
  ended: () => location.assign("/sign-in"),
};

function forEach(part, put) {
  for (const element of document.querySelectorAll("[data-live]")) if (element.dataset.live === part) put(element);
}

function follow() {
  const parts = [...new Set([...document.querySelectorAll("[data-live]")].map((each) => each.dataset.live))];
  if (!parts.length) return;
  let own = null;
  const followAlone = () => {
    own ??= new Feed((kind, data) => receivers[kind]?.(data));
    own.follow(parts);
  };
  if (!window.SharedWorker) return followAlone();
  const address = new URL("./live_worker.js", import.meta.url).href;
  const worker = new SharedWorker(policy ? policy.createScriptURL(address) : address, { type: "module", name: "live" });
  const say = () => worker.port.postMessage({ parts: own ? null : parts });
  worker.addEventListener("error", followAlone); // It has no modules in workers.
  worker.port.addEventListener("message", ({ data: { kind, data } }) => {
    if (kind === "alone") followAlone();
    else receivers[kind]?.(data);
  });
  worker.port.start();
  say();
  setInterval(say, 60_000);
  addEventListener("pagehide", () => worker.port.postMessage({ parts: null }));
  addEventListener("pageshow", (event) => event.persisted && say());
}

follow();
