// The top of the page: what the agent is at, what it is asked with, what it has taken.

import { change } from "./call.js";
import { announce, attempt, confirm, toast } from "./dialogs.js";
import { count, money } from "./figures.js";
import { byId, make, say } from "./make.js";
import { plain } from "./visible.js";

const WORDS = { needs_login: "needs a login", budget: "out of budget" };
let snapshot = null;

/** What the harness says that it does. */
export function state(name, detail) {
  const words = WORDS[name] ?? name;
  if (byId("state").dataset.state !== name) announce(`The agent is ${words}`);
  byId("state").dataset.state = name;
  say(byId("state-name"), words);
  say(byId("state-detail"), detail);
  byId("state").title = plain(detail);
  document.title = `${name === "thinking" ? "● " : ""}${document.body.dataset.agent}: ${words}`;
}

/** It is not known what the harness does. */
export function away(words) {
  byId("state").dataset.state = "offline";
  say(byId("state-name"), words);
  say(byId("state-detail"), "");
  byId("state").title = "";
  document.title = `${document.body.dataset.agent}: ${words}`;
}

/** How things stand. */
export function show(given) {
  snapshot = given;
  state(given.state, given.detail);
  say(byId("model"), [given.model ?? "default", given.effort].filter(Boolean).join(" · "));
  const part = given.window ? given.context / given.window : 0;
  byId("context-meter").value = part;
  byId("context-meter").hidden = !given.window;
  say(byId("context"), given.window ? `${Math.round(part * 100)}% of ${count(given.window)}` : count(given.context));
  say(byId("warm"), given.warm ? "warm" : "cold");
  byId("warm").title = given.warm ? "the agent CLI is kept running for the next turn" : "the next turn starts the agent CLI";
  say(byId("turns"), count(given.turns));
  say(byId("tokens"), `${count(given.tokens_in)} in, ${count(given.tokens_out)} out`);
  say(byId("cost"), money(given.cost_usd));
  say(byId("backend"), `${given.backend}, deployment ${given.deployment}`);
}

/** Make the buttons work. */
export function begin() {
  byId("compact").addEventListener("click", async () => {
    if (await attempt(change("compact"))) toast("The conversation is shortened before the next turn.");
  });
  byId("new-session").addEventListener("click", async () => {
    const text = "The agent forgets the conversation with its next turn. Its notes and files stay.";
    if (!(await confirm("Begin a new conversation?", text, "Begin a new one"))) return;
    if (await attempt(change("new-session"))) toast("The next turn begins a new conversation.");
  });
  byId("choose").addEventListener("click", choose);
  byId("unfold").addEventListener("click", () => {
    const open = byId("top").classList.toggle("unfolded");
    byId("unfold").setAttribute("aria-expanded", String(open));
    say(byId("unfold"), open ? "Less" : "More");
  });
  // What sticks below the top has to know how high that is.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--head", `${byId("top").offsetHeight}px`);
  }).observe(byId("top"));
  byId("chooser").addEventListener("close", async () => {
    if (byId("chooser").returnValue !== "yes") return;
    const model = byId("chooser-model").value.trim() || null;
    const chosen = { model, effort: byId("chooser-effort").value || null };
    if (await attempt(change("choose", chosen))) toast("Used from the next turn on.");
  });
}

function choose() {
  byId("chooser-models").replaceChildren(...(snapshot?.models ?? []).slice(0, 100).map((name) => make("option", { value: plain(name) })));
  byId("chooser-model").value = plain(snapshot?.model ?? "");
  byId("chooser-effort").value = snapshot?.effort ?? "";
  byId("chooser").returnValue = "no";
  byId("chooser").showModal();
}
