// The palette: `/` or Ctrl-K finds pages, agents and actions by their names.

const MOST = 30;
let dialog, input, list, report, entries = [], shown = [], chosen = 0;

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function build() {
  input = make("input", { type: "text", role: "combobox", "aria-label": "Find agents, pages and actions",
    "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list", autocomplete: "off",
    placeholder: "Find agents, pages and actions", id: "palette-input" });
  list = make("ul", { role: "listbox", id: "palette-list", "aria-label": "Found" });
  report = make("p", { role: "status", class: "hint" });
  dialog = make("dialog", { class: "palette", "aria-label": "Palette" }, input, report, list);
  document.body.append(dialog);
  input.addEventListener("input", () => show(0));
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      choose((chosen + step + shown.length) % Math.max(1, shown.length));
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(shown[chosen]);
    }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// All words have to be in the label, those at its beginning come first.
function find(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = entries.filter(({ label }) => words.every((word) => label.toLowerCase().includes(word)));
  const rank = ({ label }) => (words.length && label.toLowerCase().startsWith(words[0]) ? 0 : 1);
  return found.sort((one, other) => rank(one) - rank(other)).slice(0, MOST);
}

function show(place) {
  shown = find(input.value);
  list.replaceChildren(...shown.map((entry, at) => {
    const item = make("li", { role: "option", id: `palette-${at}` }, entry.label, make("span", { class: "hint" }, entry.hint));
    item.addEventListener("click", () => run(entry));
    return item;
  }));
  if (!shown.length) list.append(make("li", { role: "option", "aria-disabled": "true" }, "Nothing is called so"));
  choose(place);
}

function choose(place) {
  chosen = place;
  [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === place && shown.length > 0)));
  if (shown.length) {
    input.setAttribute("aria-activedescendant", `palette-${place}`);
    list.children[place].scrollIntoView({ block: "nearest" });
  } else input.removeAttribute("aria-activedescendant");
}

function run(entry) {
  if (!entry) return;
  if (entry.verb) act(entry);
  else window.location.assign(entry.address);
}

// Carries an action out without leaving the page.
async function act(entry) {
  report.textContent = `${entry.label} …`;
  const headers = { "Hive-Csrf": document.querySelector("meta[name=csrf]").content };
  const body = new URLSearchParams({ do: entry.verb });
  try {
    // The answer to a form is another page, which is not needed.
    const answer = await fetch(entry.address, { method: "POST", headers, body, redirect: "manual" });
    if (answer.type === "opaqueredirect" || answer.ok) {
      dialog.close();
      return;
    }
    const { error } = await answer.json();
    report.textContent = error.hint ? `${error.message}: ${error.hint}` : error.message;
  } catch {
    report.textContent = "The dashboard does not answer: look at the agent's state.";
  }
}

async function open() {
  if (!dialog) build();
  if (dialog.open) return;
  input.value = report.textContent = "";
  entries = [];
  dialog.showModal();
  show(0);
  const answer = await fetch("/palette", { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) ({ entries } = await answer.json());
  show(0);
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
  const control = event.key === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
  if (!(slash || control) || !document.querySelector("meta[name=csrf]")?.content) return;
  event.preventDefault();
  open();
});
