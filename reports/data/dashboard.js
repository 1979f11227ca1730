// Live progress: asks for the numbers every two seconds while a scan runs, and reloads the page when it has ended.
"use strict";

const panel = document.querySelector("[data-progress]");
const PAUSE = 2000;

function show(said) {
  for (const place of panel.querySelectorAll("[data-field]")) {
    const value = said[place.dataset.field];
    const text = typeof value === "number" ? value.toLocaleString("en") : String(value);
    if (place.textContent !== text) place.textContent = text;
  }
  for (const bar of panel.querySelectorAll("[data-bar]")) {
    const [part, whole] = bar.dataset.bar.split("/");
    bar.max = said[whole] || 1;
    bar.value = said[part];
  }
}

async function follow() {
  try {
    const answer = await fetch(panel.dataset.progress, { cache: "no-store" });
    if (answer.ok) {
      const said = await answer.json();
      show(said);
      if (said.state !== "running" && said.state !== "loading") {
        location.reload();
        return;
      }
    }
  } catch {
    // The server may be busy or restarting: ask again.
  }
  setTimeout(follow, PAUSE);
}

if (panel) setTimeout(follow, PAUSE);
