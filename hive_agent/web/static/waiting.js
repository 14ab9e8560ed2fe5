// What waits: messages for the agent, its questions to the operator, reminders, proposals.

import { change, read } from "./call.js";
import { when } from "./figures.js";
import { announce } from "./dialogs.js";
import { List } from "./list.js";
import { byId, make, say } from "./make.js";

const SOON = 300;
const NOW_AND_THEN = 10_000;

export class Waiting {
  /** `shown()` is told when something else is shown. */
  constructor(shown) {
    this.shown = shown;
    this.inbox = new List("inbox", "empty", (message) => message.id, letter);
    this.reminders = new List("reminders", "none", (item) => item.id, reminder);
    this.proposals = new List("proposals", "none", (item) => `${item.agent}/${item.number}`, proposal);
    this.questions = new Map();
    this.due = null;
    setInterval(() => document.hidden || this.refresh(), NOW_AND_THEN);
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Look again, soon: changes come in bursts. */
  refresh() {
    this.due ??= setTimeout(() => this.look(), SOON);
  }

  async look() {
    this.due = null;
    try {
      const [inbox, open] = await Promise.all([read("inbox"), read("open")]);
      this.inbox.show(inbox.messages, inbox.total);
      this.showQuestions(open.questions);
      this.reminders.show(open.reminders);
      this.proposals.show(open.proposals);
      this.shown();
    } catch {
      // The next look may find more; what does not answer is told by the live flow.
    }
  }

  /** Questions that are there already stay as they are: somebody may be typing. */
  showQuestions(questions) {
    const open = new Map(questions.filter((question) => question.state === "open").map((question) => [question.id, question]));
    for (const [id, element] of this.questions) {
      if (open.has(id)) continue;
      if (element.contains(document.activeElement)) byId("body").focus({ preventScroll: true });
      element.remove();
      this.questions.delete(id);
    }
    for (const [id, question] of open) {
      if (this.questions.has(id)) continue;
      const element = this.question(question);
      this.questions.set(id, element);
      byId("question-list").append(element);
      announce(`${document.body.dataset.agent} asks: ${question.text}`);
    }
    byId("questions").hidden = !this.questions.size;
  }

  question(question) {
    const problem = make("p", { className: "problem", role: "alert", hidden: true });
    const answer = async (text) => {
      if (element.ariaBusy === "true") return;
      element.ariaBusy = "true";
      problem.hidden = true;
      try {
        await change("answer", { question: question.id, text });
        this.refresh();
      } catch (refused) {
        say(problem, refused.whole);
        problem.hidden = false;
        element.ariaBusy = "false";
      }
    };
    const options = question.options.map((option) => make("button", { type: "button", dir: "auto", onclick: () => answer(option) }, option));
    const name = `answer-${question.id}`;
    const box = make("input", { id: name, autocomplete: "off", dir: "auto", required: true });
    const own = question.free_text === false ? null : make("form", { onsubmit: (event) => {
      event.preventDefault();
      answer(box.value);
    } }, make("label", { htmlFor: name }, options.length ? "Or in your own words" : "Your answer"),
    make("div", { className: "row" }, box, make("button", { className: "strong" }, "Answer")));
    const element = make("article", { className: "question", "aria-label": `Question ${question.id}` },
      make("p", { className: "body", dir: "auto" }, question.text),
      options.length ? make("div", { className: "options" }, options) : null, own, problem,
      make("p", { className: "hint" }, "asked ", when(question.asked_at), question.expires_at ? ", until " : null, question.expires_at ? when(question.expires_at) : null));
    return element;
  }
}

function head(...parts) {
  return make("p", { className: "meta" }, parts.map((part) => make("span", {}, part)));
}

function folded(body, characters) {
  const short = body.length > SOON ? `${body.slice(0, SOON)} …` : body;
  const text = make("p", { className: "body", dir: "auto" }, short);
  if (body.length <= SOON) return text;
  const more = characters > body.length ? `\n… (${characters.toLocaleString("en")} characters in all)` : "";
  const button = make("button", { type: "button", className: "quiet more", onclick: () => {
    say(text, body + more);
    button.remove();
  } }, "Show more");
  return make("div", {}, text, button);
}

function letter(message) {
  return make("li", { className: message.leased ? "leased" : "" },
    head(make("bdi", {}, message.sender), when(message.sent_at), message.leased ? "in the turn" : `#${message.id}`),
    folded(message.body, message.characters));
}

function reminder(item) {
  return make("li", {}, head(when(item.at)), folded(item.text, item.text.length));
}

function proposal(item) {
  const waits = item.waits_for ? `waits for the ${item.waits_for}` : item.state;
  return make("li", {}, head(`${item.agent}/${item.number}`, item.kind, waits), folded(item.note, item.note.length));
}
