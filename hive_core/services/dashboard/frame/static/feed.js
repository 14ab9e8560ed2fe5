// A connection over which the server sends live parts of pages. It is made again whenever it has ended, or is silent for
// too long: after the sleep of a computer it may look open and be dead.

const SILENT_MS = 50_000; // The server says something every 20 seconds.
const LOOK_MS = 5_000;
const RETRY_MS = 2_000;
const KINDS = ["part", "pieces", "connection", "ended", "alive"];

export class Feed {
  #tell;
  #parts = [];
  #source = null;
  #heard = 0;
  #retry = 0;

  // `tell(kind, data)` is called with each event; `connection` says what is wrong, `ended` that nobody is signed in.
  constructor(tell) {
    this.#tell = tell;
    setInterval(() => this.#look(), LOOK_MS);
  }

  // Follows exactly these parts; returns whether that needed a new connection, which sends all of them anew.
  follow(parts) {
    if (parts.join(" ") === this.#parts.join(" ")) return false;
    this.#parts = parts;
    this.#open();
    return true;
  }

  #open() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
    if (!this.#parts.length) return;
    const source = new EventSource(`/live?${this.#parts.map((part) => `part=${encodeURIComponent(part)}`).join("&")}`);
    this.#source = source;
    this.#heard = Date.now();
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => {
        this.#heard = Date.now();
        this.#tell(kind, JSON.parse(event.data));
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.#source) return;
      this.#tell("connection", { problem: "The dashboard does not answer" });
      if (source.readyState === EventSource.CLOSED) this.#askWhy();
    });
  }

  async #askWhy() {
    const answer = await fetch("/live").catch(() => null); // Refused in any case, as it names no part.
    if (answer?.status === 401) this.#tell("ended", {});
    else this.#retry = setTimeout(() => this.#open(), RETRY_MS);
  }

  #look() {
    if (!this.#source || Date.now() - this.#heard < SILENT_MS) return;
    this.#tell("connection", { problem: "The dashboard has not been heard of for a while" });
    this.#open();
  }
}
