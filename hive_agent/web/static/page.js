// The page: everything that happens, to where it is shown.

import { announce } from "./dialogs.js";
import * as compose from "./compose.js";
import * as head from "./head.js";
import * as keys from "./keys.js";
import { watch } from "./live.js";
import * as login from "./login.js";
import { byId, say } from "./make.js";
import { Transcript } from "./transcript.js";
import { WORDS } from "./turn.js";
import { Waiting } from "./waiting.js";

const transcript = new Transcript();
const waiting = new Waiting(() => settle());
let current = null;
/** Characters of what the agent says that are read out. */
const SPOKEN = 300;

function snapshot(given) {
  current = given;
  head.show(given);
  login.show(given.state === "needs_login", given.login);
}

const handlers = {
  async now({ snapshot: given, latest }) {
    snapshot(given);
    waiting.refresh();
    await transcript.now(given, latest);
    settle();
  },
  snapshot,
  state({ state, detail }) {
    head.state(state, detail ?? "");
    if (current) {
      current = { ...current, state, detail };
      login.show(state === "needs_login", current.login);
    }
    waiting.refresh();
  },
  turn(summary) {
    transcript.update(summary);
    grown();
    if (summary.state !== "running") announce(`Turn ${summary.id}: ${WORDS[summary.state] ?? summary.state}`);
    waiting.refresh();
  },
  entry(entry) {
    transcript.entry(entry);
    grown();
    if (entry.kind === "result") waiting.refresh();
    if (entry.kind === "text") announce(entry.text.slice(0, SPOKEN));
  },
  inbox() {
    waiting.refresh();
  },
};

/** Stay at the end while new things come, if that is where the person is. */
const CLOSE = 80;
const beyond = () => document.querySelector("main").getBoundingClientRect().bottom - window.innerHeight;
let following = true;
/** Where the window was, to know who scrolls up. */
let before = 0;

function toEnd() {
  if (beyond() > 0) window.scrollBy(0, beyond());
  before = window.scrollY;
}

function settle() {
  // Asked again then: the person may have scrolled meanwhile.
  requestAnimationFrame(() => following && toEnd());
}

function grown() {
  settle();
  byId("below").hidden = following;
}

addEventListener("scroll", () => {
  // Only who scrolls up leaves: the end may also get away by itself, when much comes at once.
  if (beyond() < CLOSE) following = true;
  else if (window.scrollY < before) following = false;
  before = window.scrollY;
  if (following) byId("below").hidden = true;
}, { passive: true });
byId("below").addEventListener("click", () => {
  toEnd();
  byId("body").focus();
});

head.begin();
keys.begin(transcript, toEnd);
login.begin();
compose.begin(() => {
  following = true;
  waiting.refresh();
});
watch(
  (kind, data) => handlers[kind](data),
  (yes, refused) => {
    byId("link").hidden = yes;
    byId("no-session").hidden = refused?.code !== "no_session";
    const signedOut = refused?.code === "no_session";
    if (signedOut) byId("link").hidden = true;
    if (refused) head.away(signedOut ? "signed out" : "offline");
    else if (yes && current) head.show(current);
  },
);
