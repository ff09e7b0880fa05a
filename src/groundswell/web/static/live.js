// Beside htmx: says when a page that refreshes itself has stopped doing so, rests while its tab is hidden, and
// catches up as soon as it is looked at again.
"use strict";
(() => {
  const note = document.getElementById("stale");
  const region = document.getElementById("live");
  if (!note || !region || !region.hasAttribute("hx-get")) return;
  const stale = (isStale) => {
    note.hidden = !isStale;
    region.classList.toggle("is-stale", isStale);
  };
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:after:request", (event) => stale(!event.detail.ctx.response.raw.ok));
  document.addEventListener("htmx:error", () => stale(true));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) window.htmx.trigger(region, "every");
  });
})();
