/* Masks: draw rectangles over a withheld image, change the frame, load images one by one.
   Without JavaScript the same is possible with numbers and buttons. */
"use strict";

for (const part of document.querySelectorAll(".needs-js")) part.hidden = false;
for (const part of document.querySelectorAll(".no-js-only")) part.hidden = true;

const board = document.querySelector("[data-mask-board]");
const list = document.querySelector("[data-rectangles]");

function numbers(row) {
  return [...row.querySelectorAll("input")].map((field) => field.value.trim());
}

function freshRow() {
  const rows = [...list.querySelectorAll(".rectangle")];
  const empty = rows.find((row) => numbers(row).every((value) => value === ""));
  if (empty) return empty;
  const total = document.getElementById("id_r-TOTAL_FORMS");
  if (rows.length >= 40) return null;
  const html = document.querySelector("[data-rectangle]").content.cloneNode(true);
  for (const field of html.querySelectorAll("input")) {
    field.name = field.name.replace("__prefix__", rows.length);
    field.id = field.id.replace("__prefix__", rows.length);
  }
  list.append(html);
  total.value = rows.length + 1;
  return list.lastElementChild;
}

function place(box, [left, top, width, height]) {
  const { rows, columns } = board.dataset;
  box.style.left = `${(100 * left) / columns}%`;
  box.style.top = `${(100 * top) / rows}%`;
  box.style.width = `${(100 * width) / columns}%`;
  box.style.height = `${(100 * height) / rows}%`;
}

function drawn() {
  for (const box of board.querySelectorAll(".mask-box")) box.remove();
  for (const row of list.querySelectorAll(".rectangle")) {
    const given = numbers(row);
    if (given.some((value) => !/^\d+$/.test(value))) continue;
    const box = document.createElement("div");
    box.className = "mask-box";
    place(box, given.map(Number));
    board.append(box);
  }
}

function pixel(event) {
  const frame = board.querySelector("img").getBoundingClientRect();
  const along = (at, start, size, count) => Math.min(Math.max(Math.round(((at - start) / size) * count), 0), count);
  return [
    along(event.clientX, frame.left, frame.width, Number(board.dataset.columns)),
    along(event.clientY, frame.top, frame.height, Number(board.dataset.rows)),
  ];
}

if (board && list) {
  let start = null;
  let draft = null;
  const span = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.abs(a[0] - b[0]), Math.abs(a[1] - b[1])];
  board.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    board.setPointerCapture(event.pointerId);
    start = pixel(event);
    draft = document.createElement("div");
    draft.className = "mask-box mask-draft";
    board.append(draft);
  });
  board.addEventListener("pointermove", (event) => {
    if (start) place(draft, span(start, pixel(event)));
  });
  board.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [left, top, width, height] = span(start, pixel(event));
    start = null;
    draft.remove();
    const row = width > 1 && height > 1 ? freshRow() : null;
    if (row) {
      const fields = row.querySelectorAll("input");
      [left, top, width, height].forEach((value, place_) => { fields[place_].value = value; });
    }
    drawn();
  });
  board.addEventListener("pointercancel", () => { start = null; if (draft) draft.remove(); });
  list.addEventListener("input", drawn);
  drawn();
}

const slider = document.querySelector("[data-frames]");
if (board && slider) {
  const picture = board.querySelector("img");
  slider.addEventListener("change", () => {
    const whole = document.querySelector("input[name=whole]");
    const range = whole && whole.checked ? "&whole=1" : "";
    picture.src = `${picture.dataset.base}?frame=${slider.value - 1}${range}`;
    const field = document.getElementById("frame");
    if (field) field.value = slider.value;
  });
}
const whole = document.querySelector("input[name=whole]");
if (board && whole) {
  whole.addEventListener("change", () => {
    const picture = board.querySelector("img");
    const frame = slider ? slider.value - 1 : 0;
    picture.src = `${picture.dataset.base}?frame=${frame}${whole.checked ? "&whole=1" : ""}`;
  });
}

/* The contact sheet: load one image after another, so that a PACS gets one request at a time. */
const all = document.querySelector("[data-show-all]");
if (all) {
  all.addEventListener("click", async () => {
    all.disabled = true;
    for (const place_ of document.querySelectorAll("[data-picture]")) {
      await new Promise((done) => {
        const image = new Image();
        image.alt = place_.dataset.alt;
        image.onload = () => { place_.replaceChildren(image); done(); };
        image.onerror = () => { place_.textContent = place_.dataset.failed; done(); };
        image.src = place_.dataset.picture;
      });
      delete place_.dataset.picture;
    }
  });
}
