// The review of a proposal: loads the diffs of files when they come into view, follows the log, keeps comments on lines
// until the decision is sent, and moves by keyboard. Without it the page has links and forms that do the same.

import { putFragment } from "./live.js";

const review = document.querySelector(".review");
const commit = review.dataset.commit;
const store = `drafts:${commit}`;

// --- files ---------------------------------------------------------------------------------------------------------

// Two at a time, the one that was asked for last first: it is what the reader looks at.
const pending = [];
let running = 0;

function load(body) {
  if (!body.dataset.source || pending.includes(body)) return;
  pending.push(body);
  loadNext();
}

function loadNext() {
  while (running < 2 && pending.length) {
    running += 1;
    loadNow(pending.pop()).finally(() => {
      running -= 1;
      loadNext();
    });
  }
}

async function loadNow(body) {
  const source = body.dataset.source;
  if (!source) return;
  delete body.dataset.source;
  try {
    const answer = await fetch(source, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(`the dashboard answered ${answer.status}`);
    putFragment(body, await answer.text());
    prepare(body);
  } catch (error) {
    body.dataset.source = source;
    const note = document.createElement("p");
    note.className = "diff-note warn";
    note.textContent = `This file could not be loaded: ${error.message}. Open the link to try again.`;
    body.querySelectorAll(".warn").forEach((each) => each.remove());
    body.append(note);
  }
}

// Rows of more lines take the place of the link to them.
async function loadMore(link) {
  const note = link.closest(".more");
  const query = new URL(link.href);
  query.searchParams.set("fragment", "1");
  query.searchParams.set("commit", commit);
  const answer = await fetch(query, { headers: { Accept: "text/html" } });
  if (!answer.ok) return void (location.href = link.href);
  const rest = document.createElement("div");
  putFragment(rest, await answer.text());
  note.replaceWith(rest);
  prepare(rest);
}

const watcher = new IntersectionObserver(
  (entries) => entries.forEach(({ isIntersecting, target }) => isIntersecting && load(target)),
  { rootMargin: "800px" },
);

// One line number of a hunk can be reached with Tab, the others from there with the arrow keys.
function prepare(body) {
  for (const table of body.querySelectorAll("table.diff")) {
    const first = table.querySelector("[data-sign='+']")?.closest("tr")?.querySelector("button.no:last-of-type");
    (first ?? table.querySelector("button.no"))?.setAttribute("tabindex", "0");
  }
  restoreDrafts(body.closest(".file"));
}

// --- comments on lines -----------------------------------------------------------------------------------------------

function drafts() {
  try {
    return JSON.parse(sessionStorage.getItem(store)) ?? {};
  } catch {
    return {};
  }
}

function keep(name, text) {
  const all = drafts();
  if (text) all[name] = text;
  else delete all[name];
  sessionStorage.setItem(store, JSON.stringify(all));
  showCount();
}

function showCount() {
  const count = Object.keys(drafts()).length;
  const place = document.getElementById("drafts");
  if (place) place.textContent = count ? `${count} comment${count === 1 ? "" : "s"} on lines will be sent along.` : "";
}

function addDraft(button, text = "") {
  const file = button.closest(".file");
  const row = button.closest("tr");
  const line = button.textContent.trim();
  const name = `line ${button.dataset.side} ${line} ${file.dataset.place} ${file.dataset.path}`;
  let field = [...file.querySelectorAll("tr.draft textarea")].find((each) => each.name === name);
  if (field) return field;
  const draft = document.createElement("tr");
  draft.className = "draft";
  const cell = document.createElement("td");
  cell.colSpan = row.children.length;
  field = document.createElement("textarea");
  field.name = name;
  field.rows = 2;
  field.maxLength = 5000;
  field.value = text;
  field.setAttribute("form", "decide");
  field.setAttribute("aria-label", `Comment on line ${line} of ${file.dataset.path}`);
  field.placeholder = "Comment, sent with the decision; empty: none";
  field.addEventListener("input", () => keep(name, field.value.trim()));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (!field.value.trim()) draft.remove();
    button.focus();
  });
  cell.append(field);
  draft.append(cell);
  row.after(draft);
  return field;
}

function restoreDrafts(file) {
  if (!file) return;
  for (const [name, text] of Object.entries(drafts())) {
    const [, side, line, place] = name.split(" ", 4);
    if (place !== file.dataset.place) continue;
    const buttons = [...file.querySelectorAll("button.no")];
    const button = buttons.find((each) => each.dataset.side === side && each.textContent.trim() === line);
    if (button) addDraft(button, text);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.no");
  if (button) addDraft(button).focus();
  const more = event.target.closest("a[data-more]");
  if (more && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    loadMore(more);
  }
});

// What was written for files that are not in the page is sent as well.
document.addEventListener("submit", (event) => {
  if (event.target.id !== "decide") return;
  for (const [name, text] of Object.entries(drafts())) {
    if (document.querySelector(`textarea[name="${CSS.escape(name)}"]`)) continue;
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = text;
    event.target.append(field);
  }
  sessionStorage.setItem("drafts:sent", commit);
});

// --- log -------------------------------------------------------------------------------------------------------------

async function follow(pre) {
  let cursor = pre.dataset.cursor;
  for (let goesOn = true; goesOn; ) {
    try {
      const answer = await fetch(`${pre.dataset.follow}?cursor=${encodeURIComponent(cursor)}`);
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
      for (const line of found.lines) pre.append(`${line}\n`);
      if (atEnd) pre.scrollTop = pre.scrollHeight;
      cursor = found.cursor;
      goesOn = found.goes_on;
    } catch {
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

// --- keyboard ----------------------------------------------------------------------------------------------------------

function move(step) {
  const files = [...document.querySelectorAll(".file")];
  const now = files.findIndex((file) => file.classList.contains("current"));
  const next = files[Math.min(Math.max(now + step, 0), files.length - 1)];
  if (!next) return;
  files[now]?.classList.remove("current");
  next.classList.add("current");
  next.open = true;
  load(next.querySelector(".body"));
  next.scrollIntoView({ block: "start" });
  next.querySelector("summary").focus({ preventScroll: true });
}

function moveLine(button, step) {
  const all = [...button.closest(".file").querySelectorAll(`button.no[data-side="${button.dataset.side}"]`)];
  const next = all[all.indexOf(button) + step];
  if (!next) return;
  button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (event.target.matches("button.no") && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    event.preventDefault();
    moveLine(event.target, event.key === "ArrowDown" ? 1 : -1);
    return;
  }
  const act = {
    j: () => move(1),
    k: () => move(-1),
    a: () => document.getElementById("approve")?.focus(),
    d: () => document.getElementById("note")?.focus(),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

if (sessionStorage.getItem("drafts:sent") === commit && !document.querySelector(".problem")) {
  sessionStorage.removeItem(store);
}
sessionStorage.removeItem("drafts:sent");
for (const body of document.querySelectorAll(".file .body")) {
  prepare(body);
  if (body.dataset.source) watcher.observe(body);
}
for (const pre of document.querySelectorAll("pre[data-goes-on]")) follow(pre);
new MutationObserver(showCount).observe(document.querySelector(".decision"), { childList: true });
showCount();
