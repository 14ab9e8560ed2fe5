// Single keys, for who has no mouse at hand. They do nothing while something is typed, and can be switched off: a key
// that is spoken or hit by mistake must not act (WCAG 2.1.4).

const OFF = "hive-keys-off";

/** Make them work. `transcript` has the turns, `toEnd` goes to the newest. */
export function begin(transcript, toEnd) {
  const keys = document.getElementById("keys");
  const show = () => keys.showModal();
  const acts = {
    m: () => document.getElementById("body")?.focus(),
    j: () => transcript.step(1),
    k: () => transcript.step(-1),
    n: toEnd,
    q: () => document.querySelector(".question button, .question input:not([type=hidden])")?.focus(),
    x: () => cancel(transcript.running),
    "?": show,
  };
  const box = document.getElementById("keys-on");
  box.checked = localStorage.getItem(OFF) === null;
  box.addEventListener("change", () => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
  document.getElementById("keys-open").addEventListener("click", show);
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || (event.repeat && event.key === "x")) return;
    if (!box.checked && event.key !== "?") return;
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function cancel(turn) {
  const form = turn?.querySelector('form[action$="/control/cancel"]');
  const words = "Cancel the running turn? It is stopped where it is; its messages wait until you retry or skip it.";
  if (form && window.confirm(words)) form.requestSubmit();
}
