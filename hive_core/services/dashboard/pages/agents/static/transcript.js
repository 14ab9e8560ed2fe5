// The turns of an agent, oldest first. HTML of them is made by the server; here it is put in its place.

import { makeFragment } from "./live.js";

/** Most turns on the page, and most entries of one turn that come live; the others are loaded when they are wanted. */
const MOST_TURNS = 120;
const MOST_ENTRIES = 400;
const SEEN = "hive-seen-";

async function load(address) {
  const response = await fetch(address, { headers: { Accept: "text/html" }, credentials: "same-origin" });
  if (!response.ok) throw new Error(`The dashboard answers ${response.status}`);
  return response;
}

export class Transcript {
  constructor(root, base, agent, grown) {
    this.root = root;
    this.base = base;
    this.seenKey = SEEN + agent;
    this.grown = grown;
    this.writing = null;
  }

  begin() {
    this.arrange(this.root);
    this.markNew();
    this.goOnWriting();
    this.root.addEventListener("toggle", (event) => this.opened(event.target), true);
    this.root.addEventListener("click", (event) => this.clicked(event));
    setInterval(() => this.tick(), 1_000);
    this.tick();
    const remember = () => this.remember();
    addEventListener("pagehide", remember);
    document.addEventListener("visibilitychange", remember);
  }

  /** Finish what the server leaves to scripts: results go into their calls, times are those of the place. */
  arrange(part) {
    for (const result of part.querySelectorAll("[data-into]")) this.putResult(result, result.dataset.into, result.dataset.outcome);
    for (const time of part.querySelectorAll("time[datetime]")) {
      const date = new Date(time.dateTime);
      const today = date.toDateString() === new Date().toDateString();
      const clock = { hour: "2-digit", minute: "2-digit" };
      time.textContent = date.toLocaleString(undefined, today ? clock : { day: "numeric", month: "short", ...clock });
    }
  }

  putResult(result, into, outcome) {
    const place = document.getElementById(into);
    const call = place?.closest(".entry");
    if (!place || place.childElementCount) {
      result.removeAttribute("data-into");
      return false;
    }
    place.append(...(result.matches("[data-into]") ? result.childNodes : [result]));
    if (result.matches("[data-into]")) result.remove();
    call.dataset.outcome = outcome;
    const shown = call.querySelector(".outcome");
    if (shown) shown.textContent = call.matches(".sent") && outcome === "done" ? "sent" : outcome;
    return true;
  }

  article(turn) {
    return document.getElementById(`turn-${turn}`);
  }

  get running() {
    return this.root.querySelector('.turn[data-state="running"]');
  }

  /** A turn has begun or changed. */
  turn({ turn, state, html }) {
    const made = makeFragment(html).querySelector(".turn");
    this.arrange(made);
    if (state !== "running") this.endWriting();
    const old = this.article(turn);
    if (!old) {
      const newest = [...this.root.querySelectorAll(".turn")].at(-1);
      if (newest && Number(newest.id.slice(5)) > turn) return;
      const details = made.querySelector("details");
      details.dataset.loaded = "";
      made.querySelector(".entries").replaceChildren();
      details.open = true;
      this.root.append(made);
      document.getElementById("no-turns").hidden = true;
      const turns = this.root.querySelectorAll(".turn");
      if (turns.length > MOST_TURNS) turns[0].remove();
    } else {
      old.dataset.state = state;
      const focused = old.contains(document.activeElement) ? document.activeElement.closest("summary, .turn-foot") : null;
      old.querySelector("summary").replaceChildren(...made.querySelector("summary").childNodes);
      old.querySelector(".turn-foot").replaceWith(made.querySelector(".turn-foot"));
      if (focused) old.querySelector("summary").focus({ preventScroll: true });
    }
    this.tick();
    this.grown();
  }

  /** Something happened in a turn. */
  entry({ turn, html, into, outcome, ends }) {
    if (ends) this.endWriting();
    const article = this.article(turn);
    if (!html || !article) return;
    const details = article.querySelector("details");
    // A folded turn loads all of it when it is opened.
    if (!("loaded" in details.dataset)) return;
    const made = makeFragment(html).firstElementChild;
    if (!made || document.getElementById(made.id)) return;
    const list = article.querySelector(".entries");
    this.arrange(made);
    if (!into || !this.putResult(made, into, outcome)) list.append(made);
    if (list.childElementCount > MOST_ENTRIES) this.trim(list, turn);
    if (this.writing) list.append(this.writing);
    this.grown();
  }

  trim(list, turn) {
    const first = [...list.children].find((each) => each.matches(".entry"));
    const link = list.querySelector(":scope > .more") ?? document.createElement("a");
    first.remove();
    const mark = [...list.children].find((each) => each.matches(".entry")).id.split("-").slice(-2).join(".");
    link.className = "more";
    link.dataset.earlier = "";
    link.href = `${this.base}/turns/${turn}?before=${mark}`;
    link.textContent = "Earlier in this turn";
    list.prepend(link);
  }

  /** The model writes: the text stands at the end of its turn until the whole of it comes. */
  write({ turn, at, text }) {
    const list = this.article(turn)?.querySelector("details[data-loaded] > .entries");
    if (!list) return;
    if (!this.writing || (at === 0 && this.writing.textContent)) {
      this.endWriting();
      this.writing = document.createElement("div");
      this.writing.className = "entry said writing";
      this.writing.dir = "auto";
      list.append(this.writing);
    }
    // What was seen already may come again after a break of the connection.
    if (at <= this.writing.textContent.length) this.writing.append(text.slice(this.writing.textContent.length - at));
    else this.writing.append(text);
    this.grown();
  }

  endWriting() {
    this.writing?.remove();
    this.writing = null;
  }

  goOnWriting() {
    const soFar = this.root.querySelector(".writing-so-far");
    if (!soFar) return;
    soFar.remove();
    this.write({ turn: Number(soFar.dataset.turn), at: 0, text: soFar.textContent });
  }

  /** Begin anew with how things stand: the harness is another one, or has forgotten what was missed. */
  async reload() {
    const opened = [...this.root.querySelectorAll(".turn > details[open][data-loaded]")].map((each) => each.parentElement.id);
    const response = await load(`${this.base}/turns`).catch(() => null);
    if (!response) return;
    this.writing = null;
    this.root.replaceChildren(makeFragment(await response.text()));
    this.arrange(this.root);
    this.goOnWriting();
    document.getElementById("no-turns").hidden = Boolean(this.root.querySelector(".turn"));
    for (const id of opened) document.getElementById(id)?.querySelector("details").setAttribute("open", "");
    this.tick();
    this.grown();
  }

  /** Load what happened in a turn that is opened. */
  async opened(details) {
    if (!details.matches(".turn > details") || !details.open || "loaded" in details.dataset) return;
    details.dataset.loaded = "";
    const list = details.querySelector(".entries");
    try {
      const response = await load(`${this.base}/turns/${details.parentElement.id.slice(5)}`);
      const made = makeFragment(await response.text());
      for (const late of [...list.querySelectorAll(":scope > .entry")]) if (!made.getElementById(late.id)) made.append(late);
      list.replaceChildren(made);
      this.arrange(list);
    } catch (refused) {
      delete details.dataset.loaded;
      list.textContent = refused.message;
    }
  }

  clicked(event) {
    const link = event.target.closest("a");
    const copy = event.target.closest("button.copy");
    if (copy) this.copy(copy);
    else if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      if ("whole" in link.dataset) this.showWhole(event, link);
      else if ("earlier" in link.dataset) this.showEarlier(event, link);
      else if ("before" in link.dataset) this.showEarlierTurns(event, link);
    }
  }

  async copy(button) {
    await navigator.clipboard.writeText(button.closest(".code").querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1_500);
  }

  async showWhole(event, link) {
    event.preventDefault();
    const place = link.parentElement.querySelector(".text");
    const pre = document.createElement("pre");
    pre.className = "text";
    pre.textContent = await (await load(link.href)).text();
    place.replaceWith(pre);
    link.remove();
  }

  async showEarlier(event, link) {
    event.preventDefault();
    const made = makeFragment(await (await load(link.href)).text());
    const list = link.parentElement;
    const height = document.documentElement.scrollHeight;
    link.replaceWith(made);
    this.arrange(list);
    window.scrollBy(0, document.documentElement.scrollHeight - height);
  }

  async showEarlierTurns(event, link) {
    event.preventDefault();
    const made = makeFragment(await (await load(`${this.base}/turns?before=${link.dataset.before}`)).text());
    this.arrange(made);
    const height = document.documentElement.scrollHeight;
    link.replaceWith(made);
    window.scrollBy(0, document.documentElement.scrollHeight - height);
  }

  /** Put the focus on the turn after (1) or before (-1) the one that has it; without one on the last. */
  step(by) {
    const lines = [...this.root.querySelectorAll(".turn > details > summary")];
    const at = lines.findIndex((line) => line.closest(".turn").contains(document.activeElement));
    const line = at < 0 ? lines.at(-1) : lines[Math.min(Math.max(at + by, 0), lines.length - 1)];
    line?.focus();
    line?.scrollIntoView({ block: "nearest" });
  }

  tick() {
    for (const since of this.root.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.floor(Date.now() / 1_000 - Number(since.dataset.since)));
      since.textContent = seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
    }
  }

  /** Mark where this browser's person stopped reading. */
  markNew() {
    const seen = localStorage.getItem(this.seenKey)?.match(/^(\d+)\.(\d+)$/);
    if (!seen) return;
    const later = [...this.root.querySelectorAll(".turn")].find((each) => Number(each.id.slice(5)) > Number(seen[1]));
    const last = this.article(seen[1]);
    const inside = [...(last?.querySelectorAll(".entries > .entry") ?? [])].find((each) => Number(each.id.split("-").at(-1)) > Number(seen[2]));
    const first = inside ?? later;
    if (!first) return;
    const line = document.createElement("p");
    line.className = "new-here";
    line.textContent = "new since you were here";
    first.before(line);
  }

  remember() {
    const turn = [...this.root.querySelectorAll(".turn")].at(-1);
    if (!turn) return;
    const entry = [...turn.querySelectorAll(".entry[id]")].at(-1)?.id.split("-").at(-1) ?? 0;
    localStorage.setItem(this.seenKey, `${turn.id.slice(5)}.${entry}`);
  }
}
