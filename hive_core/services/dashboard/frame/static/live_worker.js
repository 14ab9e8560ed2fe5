// Shares one connection between all windows of a browser, which could not have more than six to a server.

import { Feed } from "./feed.js";

const GONE_MS = 180_000; // A window says every minute that it is there; one that has crashed does not.
const MOST_PARTS = 100; // The server takes a few more.
const MOST_TEXT = 4_000;

const windows = new Map(); // From the port of each window to its parts, and when it was heard of.
const known = new Map(); // From each part to the messages that make it, for a window that comes later.
let connection = { problem: null };

const feed = new Feed((kind, data) => {
  if (kind === "alive") return;
  if (kind === "connection") connection = data;
  if (kind === "part") known.set(data.part, { kind, data });
  if (kind === "pieces") {
    const before = known.get(data.part)?.data.changed ?? {};
    const changed = Object.fromEntries(data.order.map((id) => [id, data.changed[id] ?? before[id]]).filter(([, html]) => html));
    known.set(data.part, { kind, data: { ...data, changed } });
  }
  for (const [port, { parts }] of windows) {
    if (data.part === undefined || parts.includes(data.part)) port.postMessage({ kind, data });
  }
  if (kind === "ended") {
    windows.clear();
    follow();
  }
});

function wanted() {
  return [...new Set([...windows.values()].flatMap(({ parts }) => parts))].sort();
}

function follow() {
  for (const [port, { heard }] of windows) if (Date.now() - heard > GONE_MS) windows.delete(port);
  if (feed.follow(wanted())) known.clear();
}

self.addEventListener("connect", ({ ports: [port] }) => {
  port.addEventListener("message", ({ data: { parts } }) => {
    const isNew = !windows.has(port);
    if (!parts) windows.delete(port);
    else windows.set(port, { parts, heard: Date.now() });
    const all = wanted();
    if (all.length > MOST_PARTS || all.join("").length > MOST_TEXT) {
      windows.delete(port);
      port.postMessage({ kind: "alone" });
    }
    follow();
    if (!isNew || !windows.has(port)) return;
    port.postMessage({ kind: "connection", data: connection });
    for (const part of parts) if (known.has(part)) port.postMessage(known.get(part));
  });
  port.start();
});
