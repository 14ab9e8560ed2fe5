// The turns, oldest first: the one that runs is open and grows, older ones are loaded when somebody wants them.

import { read } from "./call.js";
import { attempt } from "./dialogs.js";
import { byId } from "./make.js";
import { Turn } from "./turn.js";

const PAGE = 10;
/** Most turns on the page; and of those, how many that ended stay open by themselves. */
const MOST = 60;
const KEPT_OPEN = 3;

export class Transcript {
  constructor() {
    this.root = byId("transcript");
    this.turns = new Map();
    this.past = false;
    this.generation = 0;
    byId("earlier").addEventListener("click", () => this.earlier());
    byId("newest").addEventListener("click", () => this.newest());
    setInterval(() => {
      for (const turn of this.turns.values()) if (turn.isOpen) turn.tick();
    }, 1_000);
  }

  /** Begin anew with how things stand. */
  async now(snapshot, latest) {
    this.snapshot = snapshot;
    this.latest = latest;
    this.past = false;
    byId("newest").hidden = true;
    this.turns.clear();
    this.root.replaceChildren();
    for (const summary of [...snapshot.held, ...(snapshot.turn ? [snapshot.turn] : [])]) this.put(summary);
    // Before anything else can come live.
    this.open(latest);
    const generation = ++this.generation;
    const found = await attempt(read(`turns?limit=${PAGE}`));
    if (!found || generation !== this.generation) return;
    for (const summary of found.turns) if (!this.turns.has(summary.id)) this.put(summary);
    this.open(latest);
    byId("earlier").hidden = found.turns.length < PAGE;
    this.tellEmpty();
  }

  /** Open the newest turn, and the one that something happened in last. */
  open(latest) {
    const turn = this.turns.get(latest.entries.at(-1)?.turn);
    turn?.fill(latest.entries, latest.partial);
    for (const one of [turn, [...this.turns.values()].at(-1)]) if (one) one.fold.open = true;
  }

  newest() {
    return this.now(this.snapshot, { entries: [], partial: true });
  }

  /** A turn has changed. */
  update(summary) {
    const turn = this.turns.get(summary.id);
    if (turn) turn.update(summary);
    else if (!this.past) this.begin(summary);
    this.tellEmpty();
  }

  begin(summary) {
    const turn = this.put(summary);
    turn.fill([], summary.attempt > 1);
    turn.fold.open = true;
    const ended = [...this.turns.values()].filter((other) => other.fold.open && !other.isOpen);
    for (const other of ended.slice(0, -KEPT_OPEN)) other.close();
    for (const other of [...this.turns.values()]) {
      if (this.turns.size <= MOST) break;
      if (other.isOpen) continue;
      other.element.remove();
      this.turns.delete(other.id);
      byId("earlier").hidden = false;
    }
  }

  /** Something happened in a turn. */
  entry(entry) {
    const turn = this.turns.get(entry.turn);
    // A folded turn loads all of it when it is opened.
    if (turn && (turn.loaded || turn.fold.open)) turn.add(entry);
  }

  /** The turn that runs. */
  get running() {
    return [...this.turns.values()].find((turn) => turn.summary.state === "running");
  }

  /** Put the focus on the turn after (1) or before (-1) the one that has it; without one on the last. */
  step(by) {
    const lines = [...this.turns.values()].map((turn) => turn.line);
    const at = lines.findIndex((line) => line.parentElement.parentElement.contains(document.activeElement));
    const line = at < 0 ? lines.at(-1) : lines[Math.min(Math.max(at + by, 0), lines.length - 1)];
    line?.focus();
    line?.scrollIntoView({ block: "nearest" });
  }

  /** Turns before the first one; when there are too many on the page, instead of them. */
  async earlier() {
    const first = Math.min(...this.turns.keys());
    const found = await attempt(read(`turns?before=${first}&limit=${PAGE}`));
    if (!found) return;
    const { turns } = found;
    if (this.turns.size + turns.length > MOST) {
      this.past = true;
      this.generation += 1;
      this.turns.clear();
      this.root.replaceChildren();
      byId("newest").hidden = false;
    }
    const height = document.body.scrollHeight;
    for (const summary of turns) this.put(summary);
    window.scrollBy(0, this.past ? 0 : document.body.scrollHeight - height);
    byId("earlier").hidden = turns.length < PAGE;
  }

  /** Make the turn and put it at its place. */
  put(summary) {
    const turn = new Turn(summary);
    const later = [...this.turns.values()].find((other) => other.id > turn.id);
    this.root.insertBefore(turn.element, later?.element ?? null);
    this.turns.set(turn.id, turn);
    this.turns = new Map([...this.turns].sort(([one], [other]) => one - other));
    return turn;
  }

  tellEmpty() {
    byId("no-turns").hidden = this.turns.size > 0;
  }
}
