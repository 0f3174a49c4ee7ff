"use strict";
{
  const $ = (id) => document.getElementById(id);
  const frames = [...document.querySelectorAll(".frame")];
  const links = [...document.querySelectorAll("#timeline a")];
  const texts = frames.map((frame) => frame.textContent.toLowerCase());
  const names = frames.map((frame) => "#" + frame.id);
  const body = document.body;
  const PAUSE_MS = 1600;
  let at = 0, timer = 0, hits = null;

  const show = (index) => {
    at = Math.min(Math.max(index, 0), frames.length - 1);
    frames.forEach((frame, number) => frame.classList.toggle("now", number === at));
    links.forEach((link, number) => number === at ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current"));
    const strip = $("timeline"), item = links[at].parentElement;
    strip.scrollLeft = item.offsetLeft - strip.offsetLeft - (strip.clientWidth - item.clientWidth) / 2;
    $("seek").value = at + 1;
    $("seek").setAttribute("aria-valuetext", links[at].title);
    $("place").textContent = `${at + 1} / ${frames.length}`;
    $("back").disabled = at === 0;
    $("on").disabled = at === frames.length - 1;
    if (location.hash !== names[at]) history.replaceState(null, "", names[at]);
    if (at === frames.length - 1) play(false);
  };

  const play = (wanted) => {
    clearInterval(timer);
    timer = wanted ? setInterval(() => show(at + 1), PAUSE_MS) : 0;
    body.classList.toggle("playing", wanted);
    $("play").setAttribute("aria-label", wanted ? "Pause" : "Play");
  };

  const toggle = () => {
    if (!timer && at === frames.length - 1) show(0);
    play(!timer && frames.length > 1);
  };

  const go = (index) => { play(false); show(index); };

  const press = (id, name, inverse) => {
    const on = body.classList.toggle(name);
    $(id).setAttribute("aria-pressed", String(on !== inverse));
  };

  const mark = (words) => {
    if (!("highlights" in CSS)) return;
    CSS.highlights.delete("found");
    if (!words) return;
    const ranges = [];
    const walker = document.createTreeWalker($("frames"), NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const text = node.data.toLowerCase();
      if (text.length !== node.data.length) continue;
      for (let found = text.indexOf(words); found >= 0; found = text.indexOf(words, found + words.length)) {
        const range = new Range();
        range.setStart(node, found);
        range.setEnd(node, found + words.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };

  const search = () => {
    const words = $("search").value.trim().toLowerCase();
    hits = words ? texts.flatMap((text, index) => text.includes(words) ? [index] : []) : null;
    links.forEach((link, index) => link.classList.toggle("out", hits !== null && !hits.includes(index)));
    $("hits").textContent = hits === null ? "" : hits.length ? `${hits.length}` : "none";
    mark(words);
    if (hits && hits.length && !hits.includes(at)) go(hits.find((index) => index > at) ?? hits[0]);
  };

  const next = (back) => {
    if (!hits || !hits.length) return;
    const found = back ? hits.findLast((index) => index < at) : hits.find((index) => index > at);
    go(found ?? (back ? hits.at(-1) : hits[0]));
  };

  const keys = {
    ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(frames.length - 1),
    " ": toggle, "/": () => { $("search").focus(); $("search").select(); }, m: () => press("marks", "bare", true), z: () => press("large", "large", false),
  };

  if (frames.length) {
    body.classList.add("live");
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      if (event.target === $("search")) {
        if (event.key === "Enter") next(event.shiftKey);
        else if (event.key === "Escape") { $("search").value = ""; search(); $("search").blur(); }
        return;
      }
      if (event.key === " " && event.target.closest("button, summary")) return;
      if (event.target === $("seek") && event.key !== " " && event.key !== "/") return;
      const act = keys[event.key];
      if (act) { event.preventDefault(); act(); }
    });
    $("back").onclick = () => go(at - 1);
    $("on").onclick = () => go(at + 1);
    $("play").onclick = toggle;
    $("marks").onclick = keys.m;
    $("large").onclick = keys.z;
    $("seek").oninput = () => go($("seek").value - 1);
    $("search").oninput = search;
    links.forEach((link, index) => link.onclick = (event) => { event.preventDefault(); go(index); });
    let from = null;
    $("frames").addEventListener("touchstart", (event) => { from = event.touches.length === 1 && event.target.closest("figure") ? event.touches[0] : null; }, { passive: true });
    $("frames").addEventListener("touchend", (event) => {
      if (!from) return;
      const x = event.changedTouches[0].clientX - from.clientX, y = event.changedTouches[0].clientY - from.clientY;
      if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) go(at + (x < 0 ? 1 : -1));
    });
    frames.forEach((frame) => frame.removeAttribute("id"));  // or the browser would scroll to them
    const asked = () => names.indexOf(location.hash);
    addEventListener("hashchange", () => { if (asked() >= 0) go(asked()); });
    show(Math.max(asked(), 0));
    scrollTo(0, 0);
  }
}
