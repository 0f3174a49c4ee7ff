// Runs in every frame before the scripts of its task do. Many tasks share one page, and thereby one keyboard focus, one
// pointer and one clipboard; here each of them gets what it would have alone. And each has a clock of its own, which
// stands still unless the harness moves it: how fast a player thinks changes nothing.
(() => {
  "use strict";
  if (location.protocol === "about:" || location.pathname === "/grid") return;
  const stop = (event) => event.stopImmediatePropagation();

  // The clock. Timers run in the order of their time, at that time.
  const START = Date.UTC(2026, 0, 1, 12);
  const RealDate = Date;
  const timers = new Map();
  let now = 0; // milliseconds since the frame was loaded
  let origin = 0; // `now` when the episode began
  let count = 0;
  window.Date = class extends RealDate {
    constructor(...parts) {
      if (parts.length) super(...parts);
      else super(Date.now());
    }
    static now() {
      return START + now - origin;
    }
  };
  performance.now = () => now;
  const plan = (every) => (run, delay, ...values) => {
    const wait = Math.max(Number(delay) || 0, every ? 4 : 0);
    timers.set(++count, { at: now + wait, every: every ? wait : 0, run, values });
    return count;
  };
  const cancel = (number) => void timers.delete(number);
  window.setTimeout = plan(false);
  window.setInterval = plan(true);
  window.requestAnimationFrame = (run) => window.setTimeout(() => run(now), 16);
  window.clearTimeout = window.clearInterval = window.cancelAnimationFrame = cancel;
  const advance = (ms) => {
    const end = now + ms;
    for (;;) {
      let number = 0;
      for (const [other, timer] of timers) {
        if (timer.at <= end && (!number || timer.at < timers.get(number).at)) number = other;
      }
      if (!number) break;
      const timer = timers.get(number);
      now = Math.max(now, timer.at);
      if (timer.every) timer.at = now + timer.every;
      else timers.delete(number);
      try {
        if (typeof timer.run === "function") timer.run(...timer.values);
      } catch (error) {
        console.error(error);
      }
    }
    now = end;
    for (const child of children()) child.advance(ms);
  };
  const children = () => [...document.querySelectorAll("iframe")].map((it) => it.contentWindow.visavis).filter(Boolean);

  // The focus. Chromium makes an element lose it for good when another frame gets it. Here the frame that is acted in
  // takes it, tells all others not to mind, and gives it back to the element that had it.
  let focused = null;
  const away = () => top.switching === true || !document.hasFocus();
  const takeFocus = () => {
    const [child] = children();
    if (child) return child.takeFocus();
    if (!document.hasFocus()) {
      top.switching = true;
      window.focus();
      top.switching = false;
    }
    const active = document.activeElement;
    if (!focused && active && active !== document.body && active.tabIndex >= 0) focused = active; // its event was missed
    if (!focused || !focused.isConnected) focused = null;
    else if (document.activeElement !== focused) focused.focus({ preventScroll: true });
  };
  addEventListener("mousedown", takeFocus, true);
  let edited = null; // the field whose `change` is due when it really loses the focus
  const onFocus = (event) => {
    if (event.target === window || event.target === document || event.target === focused) stop(event);
    else if (event.type === "focusin") focused = event.target;
  };
  const onBlur = (event) => {
    if (event.target === window || event.target === document || away()) return stop(event);
    if (event.type === "blur" && edited === event.target) {
      edited = null;
      event.target.dispatchEvent(new Event("change", { bubbles: true }));
    }
    if (event.type === "focusout") focused = null;
  };
  for (const type of ["focus", "focusin"]) addEventListener(type, onFocus, true);
  for (const type of ["blur", "focusout"]) addEventListener(type, onBlur, true);
  addEventListener("change", (event) => {
    if (event.isTrusted && away()) {
      edited = event.target;
      stop(event);
    }
  }, true);
  addEventListener("keydown", (event) => {
    if (event.key !== "Tab" || event.defaultPrevented) return;
    event.preventDefault();
    const all = [...document.querySelectorAll("a[href], button, input, select, textarea, [tabindex]")].filter(
      (it) => it.tabIndex >= 0 && !it.disabled && it.getClientRects().length,
    );
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const next = all.at(event.shiftKey ? (at < 0 ? -1 : at - 1) : (at + 1) % all.length);
    next.focus();
    if (next.select) next.select();
  });

  // The pointer. Between two steps it is beside all tasks; to a task it seems to stay where it was.
  let hovered = null; // the innermost element it is over
  let before = null; // the one it was over when it went away
  const leaves = (event) => {
    if (event.isTrusted && event.relatedTarget === null) stop(event);
  };
  for (const type of ["mouseout", "mouseleave", "pointerout", "pointerleave"]) addEventListener(type, leaves, true);
  addEventListener("mouseover", (event) => {
    if (!event.isTrusted) return;
    const { target, relatedTarget, clientX, clientY } = event;
    before = relatedTarget === null && hovered && hovered.isConnected ? hovered : null;
    hovered = target;
    if (before === target) return stop(event);
    const tell = (type, to, bubbles) =>
      to.dispatchEvent(new MouseEvent(type, { bubbles, clientX, clientY, relatedTarget: target, view: window }));
    if (before) tell("mouseout", before, true);
    for (let each = before; each && !each.contains(target); each = each.parentElement) tell("mouseleave", each, false);
  }, true);
  addEventListener("mouseenter", (event) => {
    if (event.isTrusted && event.relatedTarget === null && before && event.target.contains(before)) stop(event);
  }, true);

  // The clipboard.
  let clip = "";
  const selected = () => {
    const field = focused;
    const inField = field && typeof field.selectionStart === "number";
    return inField ? field.value.slice(field.selectionStart, field.selectionEnd) : String(getSelection());
  };
  for (const type of ["copy", "cut"]) {
    addEventListener(type, (event) => {
      event.preventDefault();
      clip = selected();
      if (type === "cut") document.execCommand("delete");
    });
  }
  addEventListener("paste", (event) => {
    event.preventDefault();
    document.execCommand("insertText", false, clip);
  });

  // A list that pops up is no part of the page in a browser without a window: here is one that is.
  let list = null;
  const closeList = () => {
    if (list) list.remove();
    list = null;
  };
  const openList = (select) => {
    closeList();
    const { left, bottom, width } = select.getBoundingClientRect();
    const style = getComputedStyle(select);
    list = document.createElement("div");
    list.dataset.list = "";
    list.style.cssText =
      `position:fixed;z-index:99999;left:${left}px;min-width:${width}px;overflow-y:auto;box-sizing:border-box;` +
      `border:1px solid #767676;background:#fff;color:#000;font:${style.fontSize}/1.4 ${style.fontFamily};cursor:default`;
    [...select.options].forEach((option, index) => {
      const row = document.createElement("div");
      row.textContent = option.text;
      row.style.cssText = "padding:0 4px;white-space:pre;min-height:1.4em";
      if (index === select.selectedIndex) row.style.cssText += ";background:#1967d2;color:#fff";
      if (option.disabled) row.style.color = "#999";
      row.onclick = () => {
        closeList();
        if (option.disabled || index === select.selectedIndex) return;
        select.selectedIndex = index;
        for (const type of ["input", "change"]) select.dispatchEvent(new Event(type, { bubbles: true }));
      };
      list.append(row);
    });
    document.body.append(list);
    const [, height] = window.visavis.size();
    const below = height - bottom;
    const above = bottom - select.getBoundingClientRect().height;
    const up = list.offsetHeight > below && above > below;
    list.style.maxHeight = `${up ? above : below}px`;
    list.style.top = `${up ? above - Math.min(list.offsetHeight, above) : bottom}px`;
    const current = list.children[select.selectedIndex];
    if (current) list.scrollTop = current.offsetTop;
  };
  addEventListener("mousedown", (event) => {
    if (list && list.contains(event.target)) {
      event.preventDefault();
      return stop(event);
    }
    const shown = list;
    closeList();
    const select = event.target.closest && event.target.closest("select");
    if (!select || select.multiple || select.size > 1 || select.disabled || event.button) return;
    event.preventDefault();
    select.focus();
    if (!shown) openList(select);
  }, true);
  for (const type of ["mouseup", "click"]) {
    addEventListener(type, (event) => {
      if (!list || !list.contains(event.target)) return;
      stop(event);
      if (type === "click" && event.target.onclick) event.target.onclick();
    }, true);
  }
  addEventListener("keydown", (event) => {
    if (list && ["Enter", "Escape", "Tab"].includes(event.key)) closeList();
  }, true);
  addEventListener("change", closeList, true);

  // What would leave the task: new windows, menus and shortcuts of the browser.
  window.open = () => null;
  window.alert = window.print = () => undefined;
  window.confirm = () => true;
  window.prompt = () => null;
  addEventListener("contextmenu", (event) => event.preventDefault());
  for (const type of ["click", "auxclick"]) {
    addEventListener(type, (event) => {
      const link = event.target.closest && event.target.closest("a[href]");
      if (link && (event.button || event.ctrlKey || event.shiftKey || event.metaKey)) event.preventDefault();
    });
  }
  addEventListener("keydown", (event) => {
    const shortcut = (event.ctrlKey || event.altKey || event.metaKey) && !"acvxyz".includes(event.key.toLowerCase());
    const moves = event.ctrlKey && !event.altKey && /^(Arrow|Home|End|Backspace|Delete|Shift|Control)/.test(event.key);
    if ((shortcut && !moves) || /^F\d/.test(event.key)) event.preventDefault();
  });

  addEventListener("DOMContentLoaded", () => {
    const sheet = document.createElement("style");
    // A caret blinks; a frame without the focus shows no ring; a selection is grey in it; a calendar that pops up would
    // be no part of the page.
    sheet.textContent =
      "* { caret-color: transparent !important } ::-webkit-calendar-picker-indicator { pointer-events: none }" +
      "::selection { background: #1967d2; color: #fff }" +
      ":where(input:not([type=button], [type=submit], [type=checkbox], [type=radio]), textarea, select)[data-visavis-focused]" +
      "{ outline: -webkit-focus-ring-color auto 1px }";
    document.head.prepend(sheet);
  });

  const ready = () =>
    document.readyState === "complete" &&
    (window.core === undefined || (window.core.cover_div !== null && window.WOB_TASK_READY !== false)) &&
    [...document.images].every((image) => image.complete) &&
    children().every((child) => child.ready());

  // Everything a scripted player may read; see oracles/page.py.
  const snapshot = (left = 0, top = 0, nodes = [], parent = -1) => {
    const visit = (element, above) => {
      if (["SCRIPT", "STYLE", "HEAD"].includes(element.tagName)) return;
      if (["reward-display", "sync-task-cover", "click-canvas"].includes(element.id)) return;
      const box = element.getBoundingClientRect();
      const style = getComputedStyle(element);
      const own = [...element.childNodes].filter((child) => child.nodeType === 3 && child.data.trim());
      const number = nodes.length;
      nodes.push({
        parent: above,
        tag: element.tagName.toLowerCase(),
        attributes: Object.fromEntries([...element.attributes].map((it) => [it.name, it.value])),
        content: element.textContent.replace(/\s+/g, " ").trim(),
        text: own.map((child) => child.data).join(" ").replace(/\s+/g, " ").trim(),
        words: own.flatMap((child) => words(child, left, top)),
        box: [left + box.left, top + box.top, box.width, box.height],
        shown: box.width > 0 && box.height > 0 && style.visibility === "visible" && style.display !== "none",
        point: meet(element, box, left, top),
        color: style.color,
        background: style.backgroundColor,
        value: element.tagName === "CANVAS" ? element.toDataURL() : "value" in element ? String(element.value) : "",
        checked: element.checked === true || element.selected === true,
        focused: element === focused,
        clicked: element.dataset.tampered === "e" + window.WOB_EPISODE_ID,
        copied: clip !== "" && element.value === clip,
        selection: typeof element.selectionStart === "number" ? [element.selectionStart, element.selectionEnd] : null,
        scroll: [element.scrollTop, element.scrollHeight, element.clientHeight],
      });
      for (const child of element.children) visit(child, number);
      const inner = element.contentWindow && element.contentWindow.visavis;
      if (inner) inner.snapshot(left + box.left + element.clientLeft, top + box.top + element.clientTop, nodes, number);
    };
    visit(document.body, parent);
    return nodes;
  };
  // Where a click meets an element or what is in it, as near to its middle as a grid allows; null if nowhere.
  const SHARES = [0.5, 0.3, 0.7, 0.1, 0.9];
  const meet = (element, box, left, top) => {
    const [width, height] = window.visavis.size();
    const [x0, x1] = [Math.max(box.left, -left), Math.min(box.right, width - left)];
    const [y0, y1] = [Math.max(box.top, -top), Math.min(box.bottom, height - top)];
    if (x1 <= x0 || y1 <= y0) return null;
    for (const down of SHARES) {
      for (const right of SHARES) {
        const [x, y] = [Math.floor(x0 + (x1 - x0) * right), Math.floor(y0 + (y1 - y0) * down)];
        if (element.contains(document.elementFromPoint(x, y))) return [left + x, top + y];
      }
    }
    return null;
  };
  const words = (text, left, top) => {
    const range = document.createRange();
    const chosen = getSelection().rangeCount ? getSelection().getRangeAt(0) : null;
    return [...text.data.matchAll(/\S+/g)].map((match) => {
      range.setStart(text, match.index);
      range.setEnd(text, match.index + match[0].length);
      const box = range.getClientRects()[0] || new DOMRect();
      const selected =
        chosen !== null &&
        !chosen.collapsed &&
        chosen.compareBoundaryPoints(Range.START_TO_START, range) <= 0 &&
        chosen.compareBoundaryPoints(Range.END_TO_END, range) >= 0;
      return [match[0], left + box.left, top + box.top, box.width, box.height, selected];
    });
  };

  // What the harness calls.
  window.visavis = {
    advance,
    ready,
    snapshot,
    size: () => [innerWidth, innerHeight],
    // Start an episode; the task is at its beginning when `ready` says so.
    begin(seed, size) {
      const { core } = window;
      this.size = () => size;
      core.EPISODE_MAX_TIME = 1e9;
      core.endEpisode(0);
      advance(1000);
      closeList();
      document.activeElement.blur();
      focused = edited = hovered = before = null;
      clip = "";
      origin = now;
      Math.seedrandom(seed);
      core.startEpisodeReal();
      core.cover_div.onclick = null; // a click after the end must not begin another
    },
    instruction() {
      const said = window.core.getUtterance();
      return typeof said === "string" ? said : said.utterance;
    },
    takeFocus,
    // Bring everything to rest; whether the episode is over, and its reward without regard to time.
    settle(ms) {
      advance(ms);
      document.scrollingElement.scrollTo(0, 0);
      for (const field of document.querySelectorAll("[data-visavis-focused]")) field.removeAttribute("data-visavis-focused");
      if (focused) focused.setAttribute("data-visavis-focused", "");
      return [window.WOB_DONE_GLOBAL, window.WOB_RAW_REWARD_GLOBAL];
    },
  };
})();
