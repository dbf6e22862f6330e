// The arena's keyboard, and what the browser does by itself while a pair is being made. Runs once, in the page's head.
"use strict";

(() => {
  const KEYS = { ArrowLeft: "#vote-left", ArrowRight: "#vote-right", ArrowDown: "#vote-tie", ArrowUp: "#vote-both_bad" };
  Object.assign(KEYS, { s: "#vote-skip", z: "#undo", r: "#next", escape: "#cancel", " ": "#player .mp-play" });
  const WATCH_FIRST_MS = 300; // an answer this soon after a new pair was meant for the one before
  const PHONE_BELOW_PX = 760; // there the bodies lie below the form
  const root = document.documentElement;
  const find = (selector) => document.querySelector(selector);
  const player = () => (window.__motionPlayers || []).find((handle) => handle.element.closest("#player"));
  let cameFrom = null; // where the focus was when the run began
  let shownAt = -Infinity;
  let playsBefore = 0; // the pair on the screen

  // A run begins: Generate becomes Cancel (style.css), the old pair stops, the keyboard goes to the stage.
  function begin() {
    cameFrom = document.activeElement;
    root.dataset.running = "";
    if (player()) player().hold(true);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (innerWidth < PHONE_BELOW_PX) find("#stage").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
    find("#player .mp-stage").focus({ preventScroll: true });
  }

  // It ended, with a pair or without; without one the focus goes back.
  function end() {
    delete root.dataset.running;
    if (player()) player().hold(false);
    if (!find("#player .mp-stage").contains(document.activeElement)) find("#generate").focus({ preventScroll: true });
    else if (find("#notice .error") && cameFrom && cameFrom.isConnected) cameFrom.focus({ preventScroll: true });
  }

  // An answer is on its way: its last input becomes what was seen of the pair, as app.votes.Watched reads it.
  function answer(asked) {
    const seen = player() ? player().element.dataset : {};
    const response_s = (performance.now() - shownAt) / 1000;
    return [...asked.slice(0, -1), { nonce: seen.nonce, response_s, plays: Number(seen.plays || 0) - playsBefore }];
  }

  function onShown(event) {
    if (!event.target.closest("#player")) return;
    shownAt = performance.now();
    playsBefore = Number(event.target.dataset.plays || 0);
  }

  function onKey(event) {
    if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const key = event.key.startsWith("Arrow") ? event.key : event.key.toLowerCase();
    const stage = find("#stage");
    if (!(key in KEYS) || !stage || stage.offsetParent === null) return;
    if (key !== "escape" && event.target.closest("input, textarea, select, [contenteditable], [role=tablist]")) return;
    if (key === " " && event.target.closest("button, a, summary")) return;
    event.preventDefault();
    const running = "running" in root.dataset;
    if (running !== (key === "escape") || performance.now() - shownAt < WATCH_FIRST_MS) return;
    const button = find(KEYS[key]);
    if (button) button.click();
  }

  addEventListener("keydown", onKey);
  addEventListener("motionshown", onShown);
  window.arena = { begin, end, answer };
})();
