// Puts the texts of every look into the page. The server makes them: nothing here makes text of numbers, but ages.
const root = document.documentElement;
const body = document.body;
const stored = (key, fallback) => { try { return localStorage.getItem(key) ?? fallback; } catch { return fallback; } };
const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private windows forget */ } };

const picker = document.getElementById("rate");
const hold = document.getElementById("pause");
const banner = document.querySelector(".stale");
const announcer = document.getElementById("announcer");

let source = null;
let held = false;
let rate = Number(stored("orderstream.rate", "1"));
let heardAt = Date.now();
let shownAt = Date.parse(body.dataset.at ?? "") || Date.now();
let clockAhead = 0; // milliseconds by which this clock is ahead of the server's
let saidStale = false; // by the server
let spoken = { at: 0, text: "" };

const safeAttributes = new Set(["d", "data-tone", "data-flow", "hidden", "href", "title", "datetime", "points", "width"]);

function each(selector, key, change) {
  for (const element of document.querySelectorAll(`[${selector}="${CSS.escape(key)}"]`)) change(element);
}

function put(event) {
  for (const [key, text] of Object.entries(event.texts)) {
    each("data-live", key, (element) => { if (element.textContent !== text) element.textContent = text; });
  }
  for (const [key, attributes] of Object.entries(event.attrs)) {
    each("data-attrs", key, (element) => {
      for (const [name, value] of Object.entries(attributes)) {
        if (!safeAttributes.has(name)) continue;
        if (value === null) element.removeAttribute(name);
        else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
      }
    });
  }
  for (const [key, [tone, word]] of Object.entries(event.badges)) {
    each("data-badge", key, (element) => {
      element.dataset.tone = tone;
      element.querySelector("use").setAttribute("href", `#i-${tone}`);
      element.lastElementChild.textContent = word;
    });
  }
  for (const [key, [text, label]] of Object.entries(event.counts)) {
    each("data-count", key, (element) => { element.hidden = text === ""; element.firstElementChild.textContent = text; element.lastElementChild.textContent = ` ${label}`; });
  }
}

function take(message) {
  const event = JSON.parse(message.data);
  heardAt = Date.now();
  shownAt = Date.parse(event.at);
  clockAhead = Date.now() - Date.parse(event.now);
  saidStale = event.stale;
  if (held) return;
  put(event);
  ages();
  judge();
  renewShapes(event.shapes);
  speak(event.texts.sentence);
  body.dispatchEvent(new CustomEvent("look", { detail: event }));
}

// How it stands, for those who hear it: only when it changed, and not more often than every ten seconds.
function speak(sentence) {
  if (sentence === spoken.text || Date.now() - spoken.at < 10_000) return;
  if (spoken.text !== "") announcer.textContent = sentence;
  spoken = { at: Date.now(), text: sentence };
}

// What cannot be fresh does not look fresh.
function judge() {
  const silent = Date.now() - heardAt;
  const isLate = rate > 0 && !held && body.dataset.events !== undefined && silent > Math.max(3 * rate, 4) * 1000;
  const isStale = isLate || saidStale;
  root.classList.toggle("is-stale", isStale);
  root.classList.toggle("is-held", held);
  if (!banner) return;
  if (isLate && !saidStale) {
    const seconds = Math.round((Date.now() - clockAhead - shownAt) / 1000);
    banner.querySelector("span").textContent = `Stale: last update ${seconds} s ago. The server does not answer.`;
  }
  banner.hidden = !isStale;
}

function span(seconds) {
  const ahead = seconds < 0;
  const passed = Math.abs(seconds);
  if (passed < 2) return "just now";
  const [amount, unit] = passed < 100 ? [passed, "s"] : passed < 6000 ? [passed / 60, "min"] : passed < 172800 ? [passed / 3600, "h"] : [passed / 86400, "d"];
  return ahead ? `in ${Math.floor(amount)} ${unit}` : `${Math.floor(amount)} ${unit} ago`;
}

function ages() {
  const now = Date.now() - clockAhead;
  for (const element of document.querySelectorAll("time[datetime]")) {
    const text = span((now - Date.parse(element.dateTime)) / 1000);
    if (element.textContent !== text) element.textContent = text;
  }
}

// Parts whose rows come and go are fetched anew, with the page that they stand on.
let fetching = false;
let fetchedAt = Date.now();
function isInUse(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, summary")
    || part.querySelector("details[open]:not([data-keep]), input:checked") !== null;
}
async function renew(parts) {
  if (fetching || parts.length === 0) return;
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts) {
      const fresh = page.getElementById(part.id);
      if (fresh && !isInUse(part)) part.replaceWith(document.adoptNode(fresh));
    }
  } catch { /* the banner says so when it lasts */ } finally {
    fetching = false;
    fetchedAt = Date.now();
  }
}
function renewShapes(shapes) {
  if (Date.now() - fetchedAt < 1000) return;
  const parts = [...document.querySelectorAll("[data-shape]")];
  renew(parts.filter((part) => shapes[part.dataset.refresh] !== undefined && shapes[part.dataset.refresh] !== part.dataset.shape && !isInUse(part)));
}
function renewTimed() {
  const parts = [...document.querySelectorAll("[data-refresh]:not([data-shape])")];
  const every = Math.min(...parts.map((part) => Number(part.dataset.refresh) || 5));
  if (Date.now() - fetchedAt >= Math.max(every, rate) * 1000) renew(parts.filter((part) => !isInUse(part)));
}

function close() {
  source?.close();
  source = null;
}
function open() {
  close();
  if (rate === 0 || document.hidden || body.dataset.events === undefined) return;
  source = new EventSource(`${body.dataset.events}?every=${rate}`);
  source.addEventListener("look", take);
  // A refusal ends it for good: the server is full, or the token is. A lost connection comes back by itself.
  source.addEventListener("error", (event) => {
    if (event.target !== source || source.readyState !== EventSource.CLOSED) return;
    setTimeout(open, 5000);
    leave();
  });
}

// To where one logs in, if the page itself would not be shown any more.
async function leave() {
  const page = await fetch(location.href, { redirect: "manual", cache: "no-store" }).catch(() => undefined);
  if (page?.type === "opaqueredirect" || page?.status === 401) location.reload();
}

picker?.parentElement.removeAttribute("hidden");
hold?.removeAttribute("hidden");
if (picker) {
  if (![...picker.options].some((option) => Number(option.value) === rate)) rate = 1;
  picker.value = String(rate);
  picker.addEventListener("change", () => {
    rate = Number(picker.value);
    store("orderstream.rate", picker.value);
    heardAt = Date.now();
    open();
    judge();
  });
}
export function toggleHold() {
  held = !held;
  hold.setAttribute("aria-pressed", String(held));
  hold.textContent = held ? "Held" : "Hold";
  heardAt = Date.now();
  judge();
}
hold?.addEventListener("click", toggleHold);
document.addEventListener("visibilitychange", () => {
  heardAt = Date.now();
  if (document.hidden) close(); else open();
});
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => { if (event.persisted) open(); });
setInterval(() => {
  if (document.hidden || held) return;
  ages();
  judge();
  if (rate > 0) renewTimed();
}, 1000);
open();
