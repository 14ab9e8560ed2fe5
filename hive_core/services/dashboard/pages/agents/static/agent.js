// The page of an agent: what happens in its harness comes over one stream, and is put where it belongs.

import { begin as beginActing } from "./acting.js";
import { begin as beginKeys } from "./agent_keys.js";
import { Transcript } from "./transcript.js";

const root = document.getElementById("agent");
const base = `/agents/${encodeURIComponent(root.dataset.agent)}`;
const below = document.getElementById("below");
const banner = document.getElementById("connection");
/** Milliseconds for which a hidden window keeps its connection: a browser has few of them for all windows. */
const HIDDEN = 20_000;

document.documentElement.classList.add("scripted");

/** Stays at the end while new things come, if that is where the person is. */
const NEAR = 80;
let following = !root.dataset.wanted;
let before = 0;
const distance = () => document.documentElement.scrollHeight - window.innerHeight - window.scrollY;

function toEnd() {
  following = true;
  window.scrollTo({ top: document.documentElement.scrollHeight });
  before = window.scrollY;
  below.hidden = true;
}

function grown() {
  if (following) requestAnimationFrame(() => following && toEnd());
  else below.hidden = false;
}

addEventListener("scroll", () => {
  // Only who scrolls up leaves: the end also moves away by itself, when much comes at once.
  if (distance() < NEAR) following = true;
  else if (window.scrollY < before) following = false;
  before = window.scrollY;
  if (following) below.hidden = true;
}, { passive: true });
below.addEventListener("click", toEnd);

const transcript = new Transcript(document.getElementById("transcript"), base, root.dataset.agent, grown);

function say(problem) {
  const text = problem ? `${problem}. The transcript shows what was known then, and goes on by itself.` : "";
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = !text;
}

let source = null;
let last = root.dataset.after;
let hiding = 0;

function open() {
  if (source) return;
  source = new EventSource(`${base}/live?after=${encodeURIComponent(last)}`);
  const take = (kind, act) => source.addEventListener(kind, (event) => {
    if (event.lastEventId) last = event.lastEventId;
    act(JSON.parse(event.data));
  });
  take("entry", (told) => transcript.entry(told));
  take("turn", (told) => transcript.turn(told));
  take("writing", (told) => transcript.write(told));
  take("anew", () => transcript.reload());
  take("nothing", () => {});
  take("connection", ({ problem }) => say(problem));
  take("ended", ({ problem }) => {
    close();
    say(problem);
  });
  source.addEventListener("error", () => {
    say("The dashboard does not answer");
    if (source?.readyState !== EventSource.CLOSED) return;
    close();
    setTimeout(open, 2_000);
  });
}

function close() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(close, HIDDEN);
  else open();
});

beginActing(base, () => toEnd());
beginKeys(transcript, toEnd);
transcript.begin();
if (root.dataset.wanted) document.getElementById(`turn-${root.dataset.wanted}`)?.scrollIntoView();
else toEnd();
open();
