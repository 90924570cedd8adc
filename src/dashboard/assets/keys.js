// Keys, all of them optional, and the help that lists them.
import { toggleHold } from "./live.js";

const help = document.getElementById("help");
const opener = document.getElementById("help-open");
const choice = document.getElementById("keys");
const places = { o: "/", s: "/streams", d: "/dead", w: "/workers", a: "/alerts" };
let wanted = true;
try { wanted = localStorage.getItem("orderstream.keys") !== "off"; } catch { /* private windows forget */ }
let going = 0;

opener?.addEventListener("click", (event) => {
  if (!help) return; // The page is the help.
  event.preventDefault();
  help.showModal();
});
for (const line of document.querySelectorAll(".keys-off")) line.hidden = false;
if (choice) {
  choice.checked = wanted;
  choice.addEventListener("change", () => {
    wanted = choice.checked;
    try { localStorage.setItem("orderstream.keys", wanted ? "on" : "off"); } catch { /* for this page, then */ }
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !wanted) return;
  if (event.target.closest("input, select, textarea, dialog, [contenteditable]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going > Date.now() - 1500 && places[event.key]) {
    location.href = places[event.key];
    return;
  }
  going = 0;
  if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "p") toggleHold();
  else if (event.key === "?") help?.showModal();
  else if (event.key === "g") { going = Date.now(); return; }
  else if (event.key === "Escape") document.querySelector("details.action[open]")?.removeAttribute("open");
  else return;
  event.preventDefault();
});
