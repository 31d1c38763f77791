"use strict";
// Updates that leave focus and scrolling alone, durations that run, and zooming into a timeline.

const root = document.documentElement;
const TIMEOUT = 4_000; // milliseconds for one update
const STALE = 9_500; // after which the page says that it is not of now
const FAILING = 6_000; // the same, if an update has failed
const UNITS = document.body.dataset.units.split("|"); // days, hours, minutes, seconds
const AGO = document.body.dataset.agoText;
const ahead = Number(document.body.dataset.now) * 1000 - Date.now(); // of the receiver's clock

const pad = (number) => String(number).padStart(2, "0");

// --- the zone: the server writes times in the one that this cookie names ---

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const known = document.cookie.split("; ").includes(`receiver_zone=${zone}`);
if (!known && zone) {
  document.cookie = `receiver_zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax`;
  if (root.dataset.zone !== zone && document.cookie.includes("receiver_zone=")) location.reload();
}

// --- durations that run ---

function lasting(seconds) {
  const sizes = [86_400, 3_600, 60, 1], names = ["{d}", "{h}", "{m}", "{s}"], parts = [];
  let left = Math.max(0, Math.floor(seconds));
  for (let place = 0; place < 4 && parts.length < 2; place += 1) {
    const number = Math.floor(left / sizes[place]);
    left %= sizes[place];
    if (number || parts.length || place === 3) parts.push(UNITS[place].replace(names[place], number.toLocaleString("en")));
  }
  return parts.join(" ");
}

function ago(seconds) {
  const sizes = [86_400, 3_600, 60, 1], names = ["{d}", "{h}", "{m}", "{s}"];
  const size = Math.max(0, seconds), place = Math.max(0, sizes.findIndex((length) => size >= length));
  const unit = size < 1 ? 3 : place;
  return AGO.replace("{age}", UNITS[unit].replace(names[unit], Math.round(size / sizes[unit]).toLocaleString("en")));
}

function stopwatch(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(all / 86_400), Math.floor(all / 3_600), Math.floor(all / 60) % 60];
  if (hours >= 100) return `${days}d ${pad(hours % 24)}:${pad(minutes)}`;
  return hours ? `${hours}:${pad(minutes)}:${pad(all % 60)}` : `${pad(minutes)}:${pad(all % 60)}`;
}

function run() {
  const now = (Date.now() + ahead) / 1000;
  for (const part of document.querySelectorAll("[data-since]:not(svg)")) part.textContent = lasting(now - part.dataset.since);
  for (const part of document.querySelectorAll("[data-ago]")) part.textContent = ago(now - part.dataset.ago);
  for (const part of document.querySelectorAll("[data-watch]")) part.textContent = stopwatch(now - part.dataset.watch);
  for (const part of document.querySelectorAll("[data-clock]")) {
    const time = new Date(now * 1000);
    part.textContent = `${pad(time.getHours())}:${pad(time.getMinutes())}`;
  }
}

// --- updates ---

// Make a part like a fresh one, and keep all nodes that are in both: so the focus, an opened detail
// and what is selected stay, and everything else changes.
function renew(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const kept = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let place = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    let same = node.id ? kept.get(node.id) : place;
    if (same && !node.id && same.id) same = null;
    if (!same || same.nodeType !== node.nodeType || same.nodeName !== node.nodeName) {
      old.insertBefore(node, place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    if (same.nodeType === Node.ELEMENT_NODE) renew(same, node);
    else if (same.nodeValue !== node.nodeValue) same.nodeValue = node.nodeValue;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

const updates = document.getElementById("updates");
const pause = document.getElementById("pause");
const lost = document.getElementById("lost-text");
let heard = Date.now();
let asking = false;
let failed = false;

const clock = (time) => new Date(time).toTimeString().slice(0, 8);

function beat() {
  heard = Date.now();
  failed = false;
  root.dataset.beat = root.dataset.beat === "b" ? "a" : "b";
  delete root.dataset.lost;
  const updated = document.getElementById("updated");
  if (updated) updated.textContent = updated.dataset.text.replace("{time}", clock(heard));
}

function stale() {
  if (root.dataset.lost !== undefined || paused()) return;
  root.dataset.lost = "";
  if (lost) lost.textContent = lost.dataset.text.replace("{time}", clock(heard));
}

const paused = () => pause?.getAttribute("aria-pressed") === "true";

async function update() {
  if (asking || paused() || document.hidden) return;
  asking = true;
  try {
    const response = await fetch(location.href, { signal: AbortSignal.timeout(TIMEOUT), cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.querySelector("[data-live]")) throw new Error("not this page");
    const focused = document.activeElement;
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other) renew(part, other);
    }
    document.title = fresh.title;
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    beat();
  } catch {
    failed = true;
  } finally {
    asking = false;
  }
}

function keepFresh() {
  const every = Number(root.dataset.refresh) * 1000;
  if (updates) updates.hidden = false;
  beat();
  setInterval(update, every);
  setInterval(() => {
    run();
    if (Date.now() - heard >= (failed ? FAILING : STALE)) stale();
  }, 1_000);
  document.addEventListener("visibilitychange", update);
  window.addEventListener("online", update);
  window.addEventListener("offline", stale);
  pause?.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!paused()));
    root.toggleAttribute("data-paused", paused());
    update();
  });
  run();
}

if ("refresh" in root.dataset) keepFresh();
else if ("reload" in root.dataset) setTimeout(() => location.reload(), 5_000);

// --- printing ---

const print = document.getElementById("print");
if (print) {
  print.hidden = false;
  print.addEventListener("click", () => window.print());
}

// --- a timeline: what is pointed at, and dragging to zoom ---

const pointed = document.createElement("div");
pointed.className = "pointed";
pointed.setAttribute("aria-hidden", "true");
let from = null;

function timeAt(strip, x) {
  const box = strip.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (x - box.left) / box.width));
  return Number(strip.dataset.since) + share * (strip.dataset.until - strip.dataset.since);
}

function wall(seconds) {
  return new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: root.dataset.zone }).format(seconds * 1000);
}

function select(strip, x) {
  const [start, end] = [timeAt(strip, from.x), timeAt(strip, x)].sort((one, other) => one - other);
  strip.querySelector(".sel")?.remove();
  const [width, length] = [strip.viewBox.baseVal.width, strip.dataset.until - strip.dataset.since];
  const area = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  area.setAttribute("class", "sel");
  area.setAttribute("x", ((start - strip.dataset.since) / length) * width);
  area.setAttribute("width", ((end - start) / length) * width);
  area.setAttribute("height", strip.viewBox.baseVal.height);
  strip.append(area);
  return [start, end];
}

document.addEventListener("pointermove", (event) => {
  const strip = from?.strip ?? event.target.closest?.(".strip");
  if (!strip) {
    pointed.remove();
    return;
  }
  const of = event.target.dataset?.of;
  const range = from ? select(strip, event.clientX) : null;
  pointed.textContent = range ? `${wall(range[0])} – ${wall(range[1])}` : `${wall(timeAt(strip, event.clientX))}${of ? ` · ${of}` : ""}`;
  document.body.append(pointed);
  pointed.style.left = `${Math.max(8, Math.min(event.clientX + 12, innerWidth - pointed.offsetWidth - 8))}px`;
  pointed.style.top = `${Math.max(8, event.clientY - pointed.offsetHeight - 12)}px`;
});

document.addEventListener("pointerdown", (event) => {
  const strip = event.target.closest?.(".strip[data-since]");
  if (strip && event.button === 0 && event.pointerType !== "touch") {
    from = { strip, x: event.clientX };
    event.preventDefault();
  }
});

document.addEventListener("pointerup", (event) => {
  if (!from) return;
  const { strip, x } = from;
  const [start, end] = select(strip, event.clientX);
  from = null;
  strip.querySelector(".sel")?.remove();
  if (Math.abs(event.clientX - x) < 6) return;
  const address = new URL(location.href);
  const iso = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19) + "Z";
  address.searchParams.set("since", iso(start));
  address.searchParams.set("until", iso(Math.max(end, start + 60)));
  address.searchParams.set("range", "custom");
  location.assign(address);
});
