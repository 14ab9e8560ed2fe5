// Calls to the harness. The session's second half is kept here, where pages of other ports cannot read it.

const KEY = `hive-key-${document.body.dataset.agent}`;

/** A request was refused, or not answered: `code` is for programs, the message and `hint` for people. */
export class Refused extends Error {
  constructor(code, message, hint) {
    super(message);
    this.code = code;
    this.hint = hint;
  }

  get whole() {
    return this.hint ? `${this.message}: ${this.hint}` : this.message;
  }
}

export const key = () => localStorage.getItem(KEY);
export const keep = (value) => localStorage.setItem(KEY, value);

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", redirect: "error", ...options });
  } catch {
    throw new Refused("unreachable", "the harness does not answer", "is the agent running?");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const error = answer?.error ?? { code: "bad_answer", message: `HTTP ${response.status}`, hint: "" };
  throw new Refused(error.code, error.message, error.hint);
}

/** Ask for something to be shown. */
export const read = (path) => request(`api/${path}`, { headers: { "X-Hive-Key": key() ?? "" } });

/** Have something done. */
export function change(path, body = {}, place = "api/") {
  const headers = { "Content-Type": "application/json", "X-Hive-Key": key() ?? "" };
  return request(`${place}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}
