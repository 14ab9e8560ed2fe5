// What happens in a turn, each thing as an element.

import { long, make, say } from "./make.js";

const LONG_TEXT = 12_000;
const LONG_OUTPUT = 4_000;
const LONG_LETTER = 1_500;
const DIGEST = 160;
const TELLING = ["command", "file_path", "path", "pattern", "url", "to", "query", "text", "description", "name"];

/** What the model said: paragraphs, and code where it is fenced. */
function prose(text) {
  const parts = text.slice(0, LONG_TEXT).split(/^(```[^\n]*\n[\s\S]*?^```[ \t]*$)/m);
  const blocks = parts.flatMap((part) => {
    const fenced = part.match(/^```[^\n]*\n([\s\S]*?)^```[ \t]*$/m);
    if (fenced) return make("pre", { className: "code" }, fenced[1].replace(/\n$/, ""));
    const paragraphs = part.split(/\n[ \t]*\n/).filter((text) => text.trim());
    return paragraphs.map((text) => paragraph(text.replace(/^\n+/, "").trimEnd()));
  });
  const element = make("div", { className: "entry said" }, blocks);
  if (text.length > LONG_TEXT) {
    const more = make("button", { type: "button", className: "quiet more", onclick: () => {
      element.replaceChildren(make("p", { dir: "auto" }, text));
    } }, `Show all ${text.length.toLocaleString("en")} characters`);
    element.append(more);
  }
  return element;
}

function paragraph(text) {
  const heading = text.match(/^#{1,6} +([^\n]+)$/);
  return make("p", { className: heading ? "heading" : "", dir: "auto" }, inline(heading ? heading[1] : text));
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (part.length > 2 && part.startsWith("`")) return make("code", {}, part.slice(1, -1));
    return part.length > 4 && part.startsWith("**") ? make("strong", {}, part.slice(2, -2)) : part;
  });
}

/** A message to the agent, as a letter: who wrote, and what. */
function letter(entry) {
  const shown = make("p", { className: "body", dir: "auto" }, entry.text.slice(0, LONG_LETTER));
  const parts = [make("cite", {}, make("bdi", {}, entry.sender)), shown];
  if (entry.characters > LONG_LETTER) {
    const cut = entry.characters > entry.text.length ? `\n… (${entry.characters.toLocaleString("en")} characters in all)` : "";
    const more = make("button", { type: "button", className: "quiet more", onclick: () => {
      say(shown, entry.text + cut);
      more.remove();
    } }, "Show more");
    parts.push(more);
  }
  return make("blockquote", { className: "entry letter" }, parts);
}

/** One line that tells a call from others. */
function digest(input) {
  if (typeof input === "string") return input;
  if (input === null || typeof input !== "object") return input === undefined ? "" : String(input);
  if (typeof input.to === "string" && typeof input.body === "string") return `${input.to}: ${input.body}`;
  const name = TELLING.find((key) => typeof input[key] === "string" && input[key]);
  return name ? input[name] : JSON.stringify(input);
}

function oneLine(text) {
  const line = text.slice(0, DIGEST * 4).trim().replace(/\s+/g, " ");
  return line.length > DIGEST || text.length > DIGEST * 4 ? `${line.slice(0, DIGEST)} …` : line;
}

/** The tools of the hive have the name of its server before them, which says nothing here. */
const shortName = (name) => name.replace(/^(mcp__hive__|hive_)/, "");

function parameters(input) {
  if (input === null || typeof input !== "object" || Array.isArray(input)) {
    return long(typeof input === "string" ? input : JSON.stringify(input, null, 2) ?? "", LONG_OUTPUT);
  }
  const rows = Object.entries(input).slice(0, 50).map(([name, value]) => [
    make("dt", {}, name),
    make("dd", {}, long(typeof value === "string" ? value : JSON.stringify(value, null, 2), LONG_OUTPUT)),
  ]);
  return make("dl", { className: "input" }, rows.flat());
}

/** A call, folded; its parts are made when it is opened, and its result comes in later. */
class Call {
  constructor(entry) {
    this.entry = entry;
    this.result = null;
    this.outcome = make("span", { className: "outcome" }, "running");
    this.body = make("div", { className: "inside" });
    const summary = make("summary", {}, make("code", {}, shortName(entry.name)), " ",
      make("span", { className: "digest" }, oneLine(digest(entry.input))), " ", this.outcome);
    this.element = make("details", { className: "entry call", data: { outcome: "running" }, ontoggle: () => this.fill() },
      summary, this.body);
  }

  answer(entry) {
    this.result = entry;
    const failed = entry.is_error;
    this.element.dataset.outcome = failed ? "error" : "ok";
    say(this.outcome, failed ? "failed" : "done");
    this.fill();
  }

  fill() {
    if (!this.element.open) return;
    this.body.replaceChildren(parameters(this.entry.input));
    if (this.result) this.body.append(output(this.result));
  }
}

function output(entry) {
  const text = entry.text || "(no output)";
  const cut = entry.characters > entry.text.length
    ? make("p", { className: "hint" }, `Cut: ${entry.characters.toLocaleString("en")} characters in all.`) : null;
  return make("div", { className: entry.is_error ? "output error" : "output" },
    make("h4", {}, entry.is_error ? "Error" : "Result"), long(text, LONG_OUTPUT), cut);
}

/** Makes the elements of one turn's entries; a result goes into its call. Gives null where there is nothing to add. */
export class Entries {
  constructor() {
    this.calls = new Map();
  }

  element(entry) {
    switch (entry.kind) {
      case "message":
        return letter(entry);
      case "text":
        return prose(String(entry.text));
      case "call": {
        const call = new Call(entry);
        this.calls.set(entry.id, call);
        return call.element;
      }
      case "result": {
        const call = this.calls.get(entry.id);
        if (call && !call.result) {
          call.answer(entry);
          return null;
        }
        return make("div", { className: "entry" }, output(entry));
      }
      case "notice":
        return make("p", { className: `entry notice ${entry.level}`, dir: "auto" }, String(entry.text).slice(0, LONG_TEXT));
      case "session":
        return entry.fresh ? make("p", { className: "entry divider" }, "a new conversation begins") : null;
      default:
        return null;
    }
  }
}
