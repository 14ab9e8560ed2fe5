// One turn: its line, its buttons, and what happened in it.

import { change, read } from "./call.js";
import { attempt, confirm } from "./dialogs.js";
import { Entries } from "./entries.js";
import { count, lasted, many, money, when } from "./figures.js";
import { make, say } from "./make.js";

/** Most elements of one turn; earlier ones are removed and can be had again. */
const MOST = 300;
/** The same, when somebody asked for earlier ones. */
const MOST_LOADED = 2_000;
export const WORDS = { running: "running", waiting: "tries again", held: "stopped", ok: "done", failed: "failed", skipped: "skipped" };
const FAILURES = { needs_login: "needs a login", rate_limit: "rate limit", budget: "budget spent", stopped: "calls stopped", too_long: "conversation too long", no_tools: "tools missing", no_program: "program missing", lost_tools: "tools lost" };

export class Turn {
  constructor(summary) {
    this.id = summary.id;
    this.shown = new Map();
    this.most = MOST;
    this.entries = new Entries();
    this.loaded = false;
    this.line = make("summary");
    this.clock = make("span", { className: "clock" });
    this.before = make("button", { type: "button", className: "quiet more", hidden: true, onclick: () => this.earlier() }, "Earlier in this turn");
    this.list = make("div", { className: "entries" });
    this.problem = make("p", { className: "why", dir: "auto", hidden: true });
    this.buttons = make("div", { className: "row", hidden: true });
    this.fold = make("details", { ontoggle: () => this.opened() }, this.line, this.before, this.list);
    this.element = make("article", { className: "turn", "aria-label": `Turn ${this.id}` }, this.fold, this.problem, this.buttons);
    this.update(summary);
  }

  get isOpen() {
    return ["running", "waiting", "held"].includes(this.summary.state);
  }

  update(summary) {
    this.summary = summary;
    const state = summary.state;
    this.element.dataset.state = state;
    const facts = [
      summary.attempt > 1 ? make("span", {}, `attempt ${summary.attempt}`) : null,
      summary.tool_calls ? make("span", { className: "fine" }, many(summary.tool_calls, "tool call")) : null,
      summary.tokens_in || summary.tokens_out ? make("span", { className: "fine" }, `${count(summary.tokens_in)} in, ${count(summary.tokens_out)} out`) : null,
      summary.cost_usd === null ? null : make("span", { className: "fine" }, money(summary.cost_usd)),
      this.clock,
      when(summary.started_at),
    ];
    this.line.replaceChildren(
      make("b", {}, `Turn ${summary.id}`),
      make("span", { className: "badge" }, WORDS[state] ?? state),
      make("span", { className: "from" }, summary.senders.length ? ["from ", names(summary.senders)].flat() : "no messages"),
      make("span", { className: "facts" }, facts),
    );
    this.explain(summary);
    this.offer(state);
    this.tick();
  }

  /** Show how long it has taken, or has to wait. */
  tick() {
    const { state, started_at: start, ended_at: end, next_try_at: next } = this.summary;
    const now = Date.now() / 1_000;
    if (state === "running") say(this.clock, lasted(Math.floor(Math.max(0, now - start)), 0));
    else if (state === "waiting" && next) say(this.clock, next > now ? `again in ${lasted(Math.ceil(next - now), 0)}` : "again now");
    else say(this.clock, end ? lasted(end - start) : "");
  }

  explain(summary) {
    const why = summary.failure ? (FAILURES[summary.failure] ?? summary.failure.replaceAll("_", " ")) : "";
    say(this.problem, [why, summary.detail].filter(Boolean).join(": "));
    this.problem.hidden = !this.problem.textContent || ["running", "ok"].includes(summary.state);
  }

  offer(state) {
    const wanted = state === "running" ? "cancel" : ["waiting", "held"].includes(state) ? "retry skip" : "";
    this.buttons.hidden = !wanted;
    if (this.buttons.dataset.wanted === wanted) return;
    this.buttons.dataset.wanted = wanted;
    const focused = this.buttons.contains(document.activeElement);
    const button = (label, act, className = "") => make("button", { type: "button", className, onclick: act, "aria-label": `${label} turn ${this.id}` }, label);
    this.buttons.replaceChildren(...(state === "running"
      ? [button("Cancel", () => attempt(change("cancel")))]
      : wanted ? [button("Retry", () => attempt(change("retry", { turn: this.id })), "strong"), button("Skip", () => this.skip())] : []));
    // Whoever pressed one with the keyboard is not to be lost.
    if (focused) this.line.focus();
  }

  async skip() {
    const text = "Its messages count as handled, and the agent goes on with the next ones.";
    if (await confirm(`Skip turn ${this.id}?`, text, "Skip it")) attempt(change("skip", { turn: this.id }));
  }

  /** Show the entry, once. */
  add(entry) {
    if (this.shown.has(mark(entry))) return;
    const element = this.make(entry);
    this.shown.set(mark(entry), element);
    if (element) this.list.append(element);
    if (this.shown.size > this.most) this.trim();
  }

  /** The entry's element. One that cannot be made, such as one nested too deeply, takes nothing else with it. */
  make(entry) {
    try {
      return this.entries.element(entry);
    } catch {
      return make("p", { className: "entry notice warning" }, "(something that cannot be shown)");
    }
  }

  trim() {
    for (const [first, element] of this.shown) {
      if (this.shown.size <= this.most) break;
      element?.remove();
      this.shown.delete(first);
    }
    this.before.hidden = false;
  }

  /** Show these entries as the whole of what is known. */
  fill(entries, more) {
    this.loaded = true;
    for (const entry of entries) this.add(entry);
    this.before.hidden = this.before.hidden && !more;
  }

  async opened() {
    if (!this.fold.open || this.loaded) return;
    this.loaded = true;
    this.loaded = await this.earlier();
  }

  /** Put what came before the first entry in front of it; whether that could be had. */
  async earlier() {
    const first = this.shown.keys().next().value;
    const found = await attempt(read(`transcript?turn=${this.id}${first ? `&before=${first}` : ""}`));
    if (!found) return false;
    // Meanwhile some may have come live.
    const fresh = found.entries.filter((entry) => !this.shown.has(mark(entry)));
    const made = fresh.map((entry) => [mark(entry), this.make(entry)]);
    this.list.prepend(...made.map(([, element]) => element).filter(Boolean));
    this.shown = new Map([...made, ...this.shown]);
    this.most = Math.min(this.most + made.length, MOST_LOADED);
    this.before.hidden = !found.more;
    if (!this.shown.size) this.list.replaceChildren(make("p", { className: "hint" }, "What happened in it is not kept."));
    return true;
  }

  /** Fold it, and forget its entries: they are loaded again when it is opened. */
  close() {
    this.fold.open = false;
    this.loaded = false;
    this.shown = new Map();
    this.entries = new Entries();
    this.before.hidden = true;
    this.list.replaceChildren();
  }
}

/** What tells an entry from the others of its turn. */
const mark = (entry) => `${entry.attempt}.${entry.n}`;

function names(senders) {
  return senders.slice(0, 5).flatMap((sender, index) => [index ? ", " : "", make("bdi", {}, sender)]);
}
