// Takes the code of a set-up link out of the address, where no server gets it, and into the form. The browser's history
// keeps the address without it.

const code = location.hash.slice(1);
const field = document.getElementById("token");
if (code && field) {
  field.value = code;
  document.querySelector("[data-filled-by-link]").hidden = true;
  history.replaceState(null, "", location.pathname);
}
