"use strict";
// Times in the reader's zone, arrow keys along a timeline, and updates that leave the focus alone.

const PAUSE = 10_000; // milliseconds between two updates

const pad = (number, length = 2) => String(number).padStart(length, "0");

// A time as the browser's zone has it; the same form as the server's.
function local(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return null;
  const day = [pad(at.getFullYear(), 4), pad(at.getMonth() + 1), pad(at.getDate())].join("-");
  const time = [pad(at.getHours()), pad(at.getMinutes()), pad(at.getSeconds())].join(":");
  return `${day} ${time}.${pad(at.getMilliseconds(), 3)}`;
}

function localise(part) {
  for (const time of part.querySelectorAll("time[datetime]")) {
    time.textContent = local(time.dateTime) ?? time.textContent;
  }
  for (const segment of part.querySelectorAll(".states g")) {
    const title = segment.querySelector("title");
    for (const written of [segment.dataset.start, segment.dataset.end]) {
      const own = local(written.replace(" ", "T").replace("+00", "Z"));
      if (own) title.textContent = title.textContent.replace(written, own);
    }
  }
}

// The stretch that is pointed at, or has the focus, in words above the lines.
function point(event) {
  const segment = event.target.closest?.(".states g");
  const pointed = document.getElementById("pointed");
  if (!segment || !pointed) return;
  const line = segment.closest(".line").querySelector("h3").textContent.trim();
  pointed.textContent = `${line}: ${segment.querySelector("title").textContent}`;
}

// Along a line with the arrow keys; only one of its stretches is reached by Tab.
function walk(event) {
  const segment = event.target.closest?.(".states g");
  if (!segment) return;
  const all = [...segment.parentNode.querySelectorAll("g")];
  const here = all.indexOf(segment);
  const places = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: all.length - 1 };
  const next = all[places[event.key]];
  if (!next) return;
  event.preventDefault();
  segment.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}

const main = document.getElementById("content");
const pause = document.getElementById("pause");
const trouble = document.getElementById("trouble");

// Whether somebody is at work there, so that it must stay as it is.
function inUse(part) {
  const selection = document.getSelection();
  return part.contains(document.activeElement) || part.querySelector(".states g:hover")
    || (selection && !selection.isCollapsed && selection.containsNode(part, true));
}

async function update() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!response.ok) throw new Error(String(response.status));
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (!other || inUse(part)) continue;
    const opened = [...part.querySelectorAll("details[open]")].map((details) => details.id);
    const scrolled = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    localise(other);
    part.replaceChildren(...other.childNodes);
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    part.querySelectorAll(".scroll").forEach((box, place) => { box.scrollLeft = scrolled[place] ?? 0; });
  }
}

async function updateAgain() {
  if (pause.getAttribute("aria-pressed") === "false" && !document.hidden) {
    try {
      await update();
      trouble.textContent = "";
      const now = local(new Date().toISOString()).slice(11, 19);
      document.getElementById("updated").textContent = main.dataset.updated.replace("{time}", now);
    } catch {
      trouble.textContent = main.dataset.notUpdated;
    }
  }
  setTimeout(updateAgain, PAUSE);
}

localise(document);
const zone = document.getElementById("zone");
zone.textContent = zone.dataset.local.replace(
  "{zone}", Intl.DateTimeFormat().resolvedOptions().timeZone);
document.addEventListener("pointerover", point);
document.addEventListener("focusin", point);
document.addEventListener("keydown", walk);
if ("refresh" in main.dataset) {
  document.getElementById("updates").hidden = false;
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(pause.getAttribute("aria-pressed") === "false"));
  });
  setTimeout(updateAgain, PAUSE);
}
if ("reload" in main.dataset) setTimeout(() => location.reload(), PAUSE);
