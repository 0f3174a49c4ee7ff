// Addresses of pages, and moving between them without loading anew.

const ROUTES = [
  [/^\/$/, "photos"],
  [/^\/people$/, "people"],
  [/^\/people\/(?<id>\d+)$/, "person"],
  [/^\/review$/, "review"],
  [/^\/search$/, "search"],
  [/^\/verify$/, "verify"],
  [/^\/streams$/, "streams"],
  [/^\/settings$/, "settings"],
];

let following = () => {};
let returning = false;

/** Whether the page was come to by the browser's buttons, so that it should be as it was left. */
export const isReturning = () => returning;

/** The page of an address: {page, path, params, query}. `params.id` is a number. */
export function matchRoute({ pathname, search }) {
  for (const [pattern, page] of ROUTES) {
    const found = pattern.exec(pathname);
    if (found) {
      const params = Object.fromEntries(Object.entries(found.groups ?? {}).map(([name, text]) => [name, Number(text)]));
      return { page, path: pathname, params, query: new URLSearchParams(search) };
    }
  }
  return { page: "missing", path: pathname, params: {}, query: new URLSearchParams(search) };
}

/** Go to an address of these pages; `replace` leaves no step to come back to. */
export function navigate(target, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", target);
  returning = false;
  following();
}

/** Call `show` whenever the address has changed, by links, by `navigate` or by the browser's buttons. */
export function follow(show) {
  following = show;
  const onClick = (event) => {
    const link = event.target.closest?.("a[href]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute("download")) return;
    const target = new URL(link.href);
    if (target.origin !== location.origin || target.pathname.startsWith("/api/")) return;
    if (target.hash && target.pathname === location.pathname) return; // within the page
    event.preventDefault();
    if (target.href !== location.href) navigate(target);
  };
  const onReturn = () => {
    returning = true;
    show();
  };
  const onKeyDown = (event) => {
    if (event.key !== " " || !event.target.matches?.("a[role=button]")) return;
    event.preventDefault();
    event.target.click(); // as buttons do, and links do not
  };
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKeyDown);
  addEventListener("popstate", onReturn);
  return () => {
    document.removeEventListener("click", onClick);
    document.removeEventListener("keydown", onKeyDown);
    removeEventListener("popstate", onReturn);
  };
}

let arrivedAt = null;

/** After a page is shown: the heading of another one gets the focus, so that screen readers say where one is. */
export function arrive(path) {
  const before = arrivedAt;
  arrivedAt = path;
  if (before === null || before === path) return; // the browser has just said so itself; or it is the same page
  requestAnimationFrame(() => {
    const heading = document.querySelector("main h1") ?? document.querySelector("main");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
    if (!returning) scrollTo(0, 0);
  });
}
