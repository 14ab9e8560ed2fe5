// Logging the agent's program in: a link to open, a code to paste, and what came of it.

import { change } from "./call.js";
import { byId, say } from "./make.js";

/** Milliseconds for which success is told. */
const SHOWN = 10_000;
/** What is shown: nothing, the button to begin, the link and the box for the code, or that it worked. */
let mode = "none";
let asked = false;
let needed = false;
let address = null;

/** Whether the agent needs it, and the address of a login that is under way. */
export function show(isNeeded, url) {
  needed = isNeeded;
  address = url;
  if (mode !== "done" || url) mode = url ? "link" : needed || asked ? "begin" : "none";
  draw();
}

function draw() {
  say(byId("login-title"), needed ? "This agent needs a login" : "Log the agent in");
  byId("login").hidden = mode === "none";
  byId("log-in").hidden = mode !== "none";
  byId("login-begin").hidden = mode !== "begin";
  byId("login-form").hidden = mode !== "link";
  if (mode === "link") link(address);
}

function link(url) {
  const place = byId("login-link");
  say(place, url);
  // The program named it: nothing but a web address may be opened.
  if (/^https?:\/\//i.test(url)) place.href = url;
  else place.removeAttribute("href");
}

function result(text, bad = false) {
  say(byId("login-result"), text);
  byId("login-result").classList.toggle("bad", bad);
}

async function begun() {
  result("Asking for the address …");
  try {
    const { url } = await change("login");
    result("");
    show(needed, url);
    byId("login-code").focus();
  } catch (refused) {
    result(refused.whole, true);
  }
}

async function pasted() {
  result("Logging in …");
  try {
    await change("code", { code: byId("login-code").value.trim() });
  } catch (refused) {
    result(refused.whole, true);
    return;
  }
  byId("login-code").value = "";
  asked = false;
  mode = "done";
  draw();
  result("Logged in. The agent goes on by itself.");
  setTimeout(() => {
    if (mode !== "done") return;
    mode = "none";
    show(needed, null);
    result("");
  }, SHOWN);
}

/** Make the buttons work. */
export function begin() {
  byId("log-in").addEventListener("click", () => {
    asked = true;
    result("");
    show(needed, address);
    byId("login").scrollIntoView({ block: "center" });
    byId(address ? "login-code" : "login-start").focus();
  });
  byId("login-start").addEventListener("click", begun);
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    pasted();
  });
}
