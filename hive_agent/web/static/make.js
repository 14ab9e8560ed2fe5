// Elements, made without HTML: every text in them goes through `show`.

import { show } from "./visible.js";

/** An element with these properties; children are elements or text, null is left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    if (child instanceof Node) element.append(child);
    else show(element, child);
  }
  return element;
}

/** Set the text of an element that is there. */
export function say(element, text) {
  element.replaceChildren();
  return show(element, text);
}

export const byId = (id) => document.getElementById(id);

/** A long text: its beginning, and a button for the rest. */
export function long(text, most, properties = {}) {
  const block = make("pre", { tabIndex: 0, dir: "auto", ...properties }, text.slice(0, most));
  if (text.length <= most) return block;
  const more = make("button", {
    type: "button",
    className: "quiet more",
    onclick: () => {
      say(block, text);
      more.remove();
    },
  }, `Show all ${text.length.toLocaleString("en")} characters`);
  return make("div", {}, block, more);
}
