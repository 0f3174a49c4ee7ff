// Cards of one height in rows, of any number: only those near the window exist, and what they show is asked for in pages.

import { html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../preact.js";

const PAGE = 100;
const GAP_PX = 12;

/** Items of a server that answers in pages: {total, at(index), want(from, to), error, retry}; `ask(offset, limit)`. */
export function usePages(ask, deps) {
  const [, redraw] = useState(0);
  const pages = useMemo(() => ({ total: null, items: new Map(), asked: new Set(), error: null, alive: true }), deps);
  const want = (from, to) => {
    for (let page = Math.floor(from / PAGE); page * PAGE < to; page++) {
      if (pages.asked.has(page)) continue;
      pages.asked.add(page);
      ask(page * PAGE, PAGE).then(
        ({ items, total }) => {
          pages.total = total;
          items.forEach((item, index) => pages.items.set(page * PAGE + index, item));
          if (pages.alive) redraw((count) => count + 1);
        },
        (error) => {
          pages.asked.delete(page);
          pages.error = error;
          if (pages.alive) redraw((count) => count + 1);
        },
      );
    }
  };
  useEffect(() => {
    pages.alive = true;
    want(0, 1);
    return () => {
      pages.alive = false;
    };
  }, [pages]);
  const retry = () => {
    pages.error = null;
    want(0, 1);
    redraw((count) => count + 1);
  };
  return { total: pages.total, at: (index) => pages.items.get(index), want, error: pages.error, retry };
}

/**
 * A list of `total` cards, each at least `wide` and exactly `high` pixels. `render(index)` gives a card's content,
 * `onShow(from, to)` is told which are about to be seen.
 */
export function Windowed({ total, wide, high, render, onShow, label }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  const [rows, setRows] = useState([0, 8]);
  const columns = Math.max(1, Math.floor((width + GAP_PX) / (wide + GAP_PX)));
  const step = high + GAP_PX;
  const count = Math.ceil(total / columns);

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const look = useCallback(() => {
    const top = -box.current.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor((top - innerHeight) / step));
    const to = Math.max(from, Math.ceil((top + 2 * innerHeight) / step));
    setRows((before) => (before[0] === from && before[1] === to ? before : [from, to]));
  }, [step]);
  useLayoutEffect(() => {
    let frame = 0;
    const onScroll = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        look();
      });
    };
    look();
    addEventListener("scroll", onScroll, { passive: true });
    addEventListener("resize", onScroll);
    return () => {
      removeEventListener("scroll", onScroll);
      removeEventListener("resize", onScroll);
      cancelAnimationFrame(frame);
    };
  }, [look, width]);

  const from = Math.min(rows[0], Math.max(0, count - 1)) * columns;
  const to = Math.min(rows[1] * columns, total);
  useEffect(() => onShow?.(from, to), [from, to, onShow]);
  const shown = [];
  for (let index = from; index < to; index++) shown.push(index);
  const size = { width: `${Math.floor((width - GAP_PX * (columns - 1)) / columns)}px`, height: `${high}px` };
  const place = (index) => {
    const x = (index % columns) * ((width + GAP_PX) / columns);
    return { ...size, transform: `translate(${Math.round(x)}px, ${Math.floor(index / columns) * step}px)` };
  };
  return html`
    <ul class="windowed" ref=${box} aria-label=${label} style=${{ height: `${Math.max(0, count * step - GAP_PX)}px` }}>
      ${width > 0 &&
      shown.map(
        (index) => html`<li key=${index} style=${place(index)} aria-posinset=${index + 1} aria-setsize=${total}>
          ${render(index)}
        </li>`,
      )}
    </ul>
  `;
}
