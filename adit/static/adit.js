/* Enhancements of the pages. All pages work without JavaScript. */
"use strict";

document.documentElement.classList.add("has-js");

function ready(part) {
  for (const button of part.querySelectorAll("[data-close-note]")) button.hidden = false;
  if (navigator.clipboard) for (const button of part.querySelectorAll("[data-copy]")) button.hidden = false;
  const first = part.querySelector("[data-focus]");
  if (first) first.focus();
}

/* A button copies the text of the element named by data-copy. */
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = button.dataset.copied;
});

/* Show fields that belong to certain destinations while one of these is ticked. Without JavaScript
   the server shows them in the next step. */
document.addEventListener("change", (event) => {
  if (event.target.name !== "destinations") return;
  for (const fields of document.querySelectorAll("[data-shown-for]")) {
    const boxes = fields.dataset.shownFor.trim().split(" ").map((value) => `[name="destinations"][value="${value}"]`);
    fields.hidden = !boxes.some((box) => document.querySelector(`${box}:checked`));
  }
});

/* Close menus on a click outside and on Escape. */
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const close = event.target.closest("[data-close-note]");
  if (close) close.closest("[data-note]").remove();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

/* Mark a submitted form as busy and do not submit it twice. */
document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = (event.submitter && event.submitter.dataset.ask) || form.dataset.ask;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const busy of document.querySelectorAll("[aria-busy]")) busy.removeAttribute("aria-busy");
});

/* The server may send a message with a fragment: HX-Trigger: {"toast": {"text": …, "tone": …}}.
   The text is inserted as text, never as markup. */
function toast(text, tone) {
  const note = document.createElement("div");
  note.className = `note note-${tone || "info"}`;
  const words = document.createElement("div");
  words.textContent = text;
  note.append(words);
  toasts.append(note);
  window.setTimeout(() => note.remove(), 8000);
}
document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.tone));

/* Live parts are refreshed only while the page is visible. A part is never replaced by the sign-in
   page or an error page. */
const isLive = (part) => (part.getAttribute("hx-trigger") || "").startsWith("every");
document.addEventListener("htmx:before:request", (event) => {
  if (document.hidden && isLive(event.detail.ctx.sourceElement)) event.preventDefault();
});
document.addEventListener("htmx:before:response", (event) => {
  const { sourceElement, response } = event.detail.ctx;
  const signedOut = response.raw.redirected && new URL(response.raw.url).pathname.startsWith("/accounts/");
  if (signedOut) window.location.reload();
  else if (response.status >= 500 && !isLive(sourceElement)) toast(toasts.dataset.failed, "bad");
  if (signedOut || response.status >= 500 || response.status === 404) event.preventDefault();
});
document.addEventListener("htmx:error", (event) => {
  const ctx = event.detail.ctx;
  if (ctx && !ctx.response && !isLive(ctx.sourceElement)) toast(toasts.dataset.failed, "bad");
});
const toasts = document.getElementById("toasts");

document.addEventListener("htmx:after:swap", (event) => ready(event.target.parentNode || document));
ready(document);

/* New transfer: scroll the part that a click has changed into view, and replace the URL by the one of
   the stored search, which contains no patient data. */
document.addEventListener("htmx:after:swap", () => {
  const bench = document.querySelector("#bench[data-place]");
  if (!bench) return;
  const part = document.getElementById(bench.dataset.place);
  delete bench.dataset.place;
  const series = part && part.nextElementSibling;
  if (part) (series && series.matches(".series-row") ? series : part).scrollIntoView({ block: "nearest" });
  window.history.replaceState(null, "", `?found=${bench.elements.found.value}`);
});
