// A grid of square tiles under headings, for any number of photos: every place is computed, and only the tiles near the
// window exist. The page's own scrollbar is therefore true to the whole, and any place is as near as any other.

import { address } from "../api.js";
import { t } from "../i18n.js";
import { Component, html, useCallback, useLayoutEffect, useMemo, useRef, useState } from "../preact.js";
import { isReturning } from "../router.js";
import { Icon } from "./icons.js";

const GAP_PX = 6;
const HEADING_PX = 52;
const AFTER_PX = 20; // below a month
const FAST_PX_PER_MS = 4; // tiles that fly past are not loaded,
const SLOW_PX_PER_MS = 2; // until the window is as slow as this again
const REST_MS = 90;
const RETRY_MS = 1500;
const RETRIES = 2;

let leftAt = 0; // where the window was, for those who come back

/** Where everything is: `months` become sections with `top`, `height`, `first` (an index into all photos) and `rows`. */
export function layOut(months, width) {
  const wanted = width < 500 ? 112 : 168;
  const columns = Math.max(3, Math.floor((width + GAP_PX) / (wanted + GAP_PX)));
  const tile = Math.floor((width - GAP_PX * (columns - 1)) / columns); // whole, for what lies between pixels is blurred
  const step = tile + GAP_PX;
  const sections = [];
  let top = 0;
  let first = 0;
  for (const { month, photos } of months) {
    const rows = Math.ceil(photos.length / columns);
    const height = HEADING_PX + rows * step + AFTER_PX;
    sections.push({ month, photos, rows, first, top, height });
    top += height;
    first += photos.length;
  }
  return { columns, tile, step, sections, height: top };
}

/** The section that holds the photo of an index, or that is at a height. */
const sectionAt = (sections, field, value) => {
  let [low, high] = [0, sections.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sections[middle][field] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
};

/** The tiles of a section between two heights, as indices into its photos: [from, to). */
function tilesWithin({ columns, step }, section, from, to) {
  const row = (height) => Math.floor((height - section.top - HEADING_PX) / step);
  const first = Math.max(0, row(from));
  const last = Math.min(section.rows, row(to) + 1);
  return [first * columns, Math.max(first, last) * columns];
}

/**
 * `months` as the timeline gives them, `ids` all of their photos, `monthName` for headings. `handle.current` gets
 * `showMonth(index)` and `focusPhoto(id)`.
 */
export function Grid({ months, ids, handle, monthName }) {
  const box = useRef(null);
  const [width, setWidth] = useState(0);
  const [seen, setSeen] = useState({ from: 0, to: 0, fast: false }); // heights within the grid
  const [active, setActive] = useState(0); // of all photos: the one that Tab comes to
  const newest = useRef(0); // `active` also where keys come faster than pictures
  const holdsFocus = useRef(false); // also while the tile that has it is moved in the page, which takes it away
  const activate = useCallback((index) => {
    newest.current = index;
    setActive(index);
  }, []);
  const layout = useMemo(() => (width ? layOut(months, width) : null), [months, width]);

  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const returns = useRef(isReturning());
  useLayoutEffect(() => {
    if (!layout) return undefined;
    if (returns.current) scrollTo(0, leftAt);
    returns.current = false;
    return watchWindow(box.current, layout.step, setSeen);
  }, [layout]);
  useLayoutEffect(() => {
    const has = document.activeElement;
    if (!holdsFocus.current || (has !== document.body && !box.current.contains(has))) return;
    box.current.querySelector(`[data-index="${active}"]`)?.focus({ preventScroll: true });
  });

  const focusIndex = (index) => {
    const target = Math.min(Math.max(index, 0), ids.length - 1);
    const section = layout.sections[sectionAt(layout.sections, "first", target)];
    const row = Math.floor((target - section.first) / layout.columns);
    scrollIntoView(box.current, section.top + HEADING_PX + row * layout.step, layout.tile);
    holdsFocus.current = true;
    activate(target);
    setSeen((before) => ({ ...before })); // also when it was the active one already
  };
  if (layout) {
    handle.current = {
      showMonth: (index) => scrollTo(0, topOf(box.current) + layout.sections[index].top),
      focusPhoto: (id) => focusIndex(ids.indexOf(id)),
    };
  }
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.columns, ArrowDown: layout.columns }[event.key];
    const end = { Home: 0, End: ids.length - 1 }[event.key];
    if ((step === undefined && end === undefined) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    focusIndex(end ?? newest.current + step);
  };

  return html`
    <div class="grid" ref=${box} style=${{ height: `${layout?.height ?? 0}px` }} onKeyDown=${onKeyDown}
      onfocusin=${() => (holdsFocus.current = true)}
      onfocusout=${(event) => event.relatedTarget && (holdsFocus.current = false)}>
      ${layout && visible(layout, seen, active).map(({ index, from, to }) => {
        const section = layout.sections[index];
        return html`<${Month} key=${section.month} name=${monthName(section.month)} section=${section} layout=${layout}
          from=${from} to=${to} active=${active} fast=${seen.fast} onFocus=${activate} />`;
      })}
    </div>
  `;
}

/** Sections to be in the page, with the tiles of each; the active tile always is, so that it can keep the focus. */
function visible(layout, { from, to }, active) {
  const { sections } = layout;
  const shown = [];
  for (let index = sectionAt(sections, "top", from); index < sections.length && sections[index].top <= to; index++) {
    const [first, last] = tilesWithin(layout, sections[index], from, to);
    shown.push({ index, from: first, to: last });
  }
  const home = sectionAt(sections, "first", active);
  if (!shown.some(({ index }) => index === home)) shown.push({ index: home, from: 0, to: 0 });
  return shown;
}

function Month({ name, section, layout, from, to, active, fast, onFocus }) {
  const tiles = [];
  for (let at = from; at < Math.min(to, section.photos.length); at++) tiles.push(at);
  const own = active - section.first;
  if (own >= 0 && own < section.photos.length && (own < from || own >= to)) tiles.push(own);
  return html`
    <section style=${{ top: `${section.top}px`, height: `${section.height}px` }}>
      <h2>${name}</h2>
      <ul>
        ${tiles.map((at) => {
          const [row, column] = [Math.floor(at / layout.columns), at % layout.columns];
          return html`<${Tile} key=${section.photos[at]} id=${section.photos[at]} index=${section.first + at} name=${name}
            x=${column * layout.step} y=${row * layout.step} size=${layout.tile} place=${at + 1}
            of=${section.photos.length} active=${section.first + at === active} fast=${fast} onFocus=${onFocus} />`;
        })}
      </ul>
    </section>
  `;
}

/** Made anew only when something of it changes: most of those in the page stay as they are while one scrolls. */
class Tile extends Component {
  state = { attempt: 0 };
  wanted = false;

  shouldComponentUpdate(props, state) {
    const matters = (name) => name !== "fast" || !this.wanted; // what is loaded stays
    return state !== this.state || Object.keys(props).some((name) => matters(name) && props[name] !== this.props[name]);
  }

  onError = () => {
    const { attempt } = this.state;
    if (attempt < RETRIES) setTimeout(() => this.setState({ attempt: attempt + 1 }), RETRY_MS);
    else this.setState({ attempt: RETRIES + 1 });
  };

  render({ id, index, name, x, y, size, place, of, active, fast, onFocus }, { attempt }) {
    this.wanted ||= !fast;
    const px = size * devicePixelRatio > 330 ? 640 : 320;
    return html`
      <li style=${{ transform: `translate(${x}px, ${y}px)`, width: `${size}px`, height: `${size}px` }}
        aria-posinset=${place} aria-setsize=${of}>
        <a href=${`/?photo=${id}`} data-index=${index} tabindex=${active ? 0 : -1} onFocus=${() => onFocus(index)}
          aria-label=${t("photos.photo_of", { id: String(id), month: name })}>
          ${attempt > RETRIES
            ? html`<${Icon} name="photos" />`
            : this.wanted &&
              html`<img key=${attempt} src=${address(`/photos/${id}/picture`, { px, attempt: attempt || null })} alt=""
                decoding="async" onError=${this.onError} />`}
        </a>
      </li>
    `;
  }
}

const topOf = (element) => element.getBoundingClientRect().top + scrollY;

function scrollIntoView(element, top, height) {
  const at = topOf(element) + top;
  const margin = 90; // the bar of a phone, a heading that sticks
  if (at - margin < scrollY) scrollTo(0, at - margin);
  else if (at + height + margin > scrollY + innerHeight) scrollTo(0, at + height + margin - innerHeight);
}

/** Report what is near the window, a screen on either side, a row at a time; `fast` while it flies past. */
function watchWindow(element, step, report) {
  let frame = 0;
  let rest = 0;
  let last = { y: scrollY, time: performance.now(), fast: false, key: null };
  const look = () => {
    frame = 0;
    const [y, time] = [scrollY, performance.now()];
    leftAt = y;
    const speed = Math.abs(y - last.y) / Math.max(1, time - last.time);
    const fast = speed > (last.fast ? SLOW_PX_PER_MS : FAST_PX_PER_MS);
    const top = -element.getBoundingClientRect().top;
    const [first, final] = [Math.floor((top - innerHeight) / step), Math.ceil((top + 2 * innerHeight) / step)];
    const key = `${first} ${final} ${fast}`;
    if (key !== last.key) report({ from: first * step, to: final * step, fast });
    last = { y, time, fast, key };
    clearTimeout(rest);
    if (fast) rest = setTimeout(look, REST_MS);
  };
  const onScroll = () => {
    frame ||= requestAnimationFrame(look);
  };
  look();
  addEventListener("scroll", onScroll, { passive: true });
  addEventListener("resize", onScroll);
  return () => {
    removeEventListener("scroll", onScroll);
    removeEventListener("resize", onScroll);
    cancelAnimationFrame(frame);
    clearTimeout(rest);
  };
}
