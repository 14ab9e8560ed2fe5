// Forms with data-act are sent without leaving the page; what is refused is said beside them.

const toast = document.getElementById("toast");
let hiding = 0;

function tell(text) {
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (toast.hidden = true), 5_000);
}

function refuse(form, text) {
  const problem = form.querySelector(".problem");
  if (!problem) return tell(text);
  problem.textContent = text;
  problem.hidden = false;
}

function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function send(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const sent = form.elements.body?.value;
  form.ariaBusy = "true";
  try {
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
    const answer = await response.json();
    if (!response.ok) {
      const { message, hint } = answer.error;
      return refuse(form, hint ? `${message}: ${hint}` : message);
    }
    tell(answer.done);
    const problem = form.querySelector(".problem");
    if (problem) problem.hidden = true;
    // What was typed meanwhile stays.
    if (form.elements.body?.value === sent) form.reset();
    if (form.elements.key) form.elements.key.value = newKey();
    form.closest("details.chooser")?.removeAttribute("open");
    form.dispatchEvent(new CustomEvent("acted"));
  } catch {
    refuse(form, "The dashboard does not answer; sent again, a message arrives once");
  } finally {
    form.ariaBusy = "false";
  }
}

/** Make all forms work; `sent()` is told of every message that went out. */
export function begin(base, sent) {
  addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-act]")) return;
    event.preventDefault();
    if (form.ariaBusy === "true") return;
    if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) return;
    send(form, event.submitter);
  });
  const compose = document.getElementById("compose");
  if (!compose) return;
  const box = compose.elements.body;
  // The same key until the message is changed: what may have arrived is not sent twice.
  box.addEventListener("input", () => {
    compose.elements.key.value = newKey();
    box.rows = Math.min(12, Math.max(2, box.value.split("\n").length));
  });
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    compose.requestSubmit();
  });
  compose.addEventListener("acted", sent);
}
