// Forms with data-stay are sent without leaving the page, which shows the change by itself; the tab's title counts.

const refused = document.getElementById("refused");
const needs = document.getElementById("needs");

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-stay]")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const buttons = [...form.querySelectorAll("button")];
  for (const button of buttons) button.disabled = true;
  refused.hidden = true;
  try {
    // The answer to a form is the page itself again, which is not needed.
    const answer = await fetch(form.action, { method: "POST", body, redirect: "manual" });
    if (answer.type !== "opaqueredirect" && !answer.ok) {
      const { error } = await answer.json();
      refused.textContent = error.hint ? `${error.message}: ${error.hint}` : error.message;
      refused.hidden = false;
    } else {
      form.reset();
      form.querySelector("details[open]")?.removeAttribute("open");
    }
  } catch {
    refused.textContent = "The dashboard does not answer. Nothing is known of what was sent: look at the state below.";
    refused.hidden = false;
  } finally {
    for (const button of buttons) button.disabled = false;
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".agents details[open]")) {
    if (!menu.contains(event.target)) menu.removeAttribute("open");
  }
});

function countNeeds() {
  const count = needs.querySelectorAll("[data-need]").length;
  document.title = document.title.replace(/^(\(\d+\) )?/, count ? `(${count}) ` : "");
}

new MutationObserver(countNeeds).observe(needs, { childList: true, subtree: true });
