// Keeps the live parts of this page up to date: elements with the attribute data-live="NAME" or "NAME?key=value".
// The server makes their HTML and sends it whenever it changes.

const policy = window.trustedTypes?.createPolicy("hive", { createHTML: (html) => html });
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

// Puts changed elements in the place of those with the same id, removes those that are not in `order`, and sorts the
// rest. What somebody is typing into stays as it is.
export function putPieces(element, order, changed) {
  const made = new Map([...makeFragment(Object.values(changed).join("")).children].map((piece) => [piece.id, piece]));
  const shown = new Map([...element.children].map((piece) => [piece.id, piece]));
  const focused = document.activeElement?.id;
  for (const [id, piece] of shown) if (!order.includes(id)) piece.remove();
  order.forEach((id, place) => {
    const before = shown.get(id);
    const piece = before && hasUnsentText(before) ? before : (made.get(id) ?? before);
    if (!piece) return;
    if (before && piece !== before) {
      for (const opened of before.querySelectorAll("details[open][id]")) {
        piece.querySelector(`#${CSS.escape(opened.id)}`)?.setAttribute("open", "");
      }
      before.replaceWith(piece);
    }
    if (element.children[place] !== piece) element.insertBefore(piece, element.children[place] ?? null);
  });
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
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

function follow() {
  const parts = [...new Set([...document.querySelectorAll("[data-live]")].map((each) => each.dataset.live))];
  if (!parts.length) return;
  const query = parts.map((part) => `part=${encodeURIComponent(part)}`).join("&");
  const source = new EventSource(`/live?${query}`);
  source.addEventListener("part", (event) => {
    const { part, html } = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-live]")) {
      if (element.dataset.live === part) putFragment(element, html);
    }
  });
  source.addEventListener("pieces", (event) => {
    const { part, order, changed } = JSON.parse(event.data);
    for (const element of document.querySelectorAll("[data-live]")) {
      if (element.dataset.live === part) putPieces(element, order, changed);
    }
  });
  source.addEventListener("connection", (event) => showProblem(JSON.parse(event.data).problem));
  source.addEventListener("error", () => {
    showProblem("The dashboard does not answer");
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}

follow();
