// The shell: pages by address, navigation, sign-in, language and theme.

import { listenForSignIn } from "./api.js";
import { Dialogs } from "./components/dialog.js";
import { Icon } from "./components/icons.js";
import { SignIn } from "./components/sign_in.js";
import { Toasts } from "./components/toasts.js";
import { Uploads } from "./components/uploads.js";
import { firstLanguage, t, useLanguage } from "./i18n.js";
import { html, render, useEffect, useState } from "./preact.js";
import { arrive, follow, matchRoute } from "./router.js";
import { current, loadSession } from "./session.js";

const MAIN_LINKS = [
  ["/", "photos"],
  ["/people", "people"],
  ["/review", "review"],
  ["/search", "search"],
];
const MORE_LINKS = [
  ["/verify", "verify"],
  ["/streams", "streams"],
  ["/settings", "settings"],
];
const OWN_DROPS = ["search", "verify"]; // there a photo that is dropped is not to be kept

function App() {
  const [place, setPlace] = useState(null); // {Page, route, params, query}
  const [signedOut, setSignedOut] = useState(current() === null);
  const [, redraw] = useState(0);

  useEffect(() => {
    const show = async () => {
      const here = matchRoute(location);
      const { default: Page } = await import(`./pages/${here.page}.js`);
      setPlace({ ...here, Page });
      arrive(here.path);
    };
    show();
    return follow(show);
  }, []);
  useEffect(() => listenForSignIn(() => setSignedOut(true)), []);
  useEffect(() => {
    const again = () => redraw((count) => count + 1);
    addEventListener("visavis-language", again);
    return () => removeEventListener("visavis-language", again);
  }, []);

  if (!place) return null;
  const { Page } = place;
  return html`
    <a class="skip" href="#content">${t("shell.skip")}</a>
    ${signedOut
      ? html`<main id="content" tabindex="-1"><${SignIn} onDone=${() => setSignedOut(false)} /></main>`
      : html`
          <${Navigation} path=${place.path} />
          <main id="content" tabindex="-1">
            <${Page} key=${place.path} params=${place.params} query=${place.query} />
          </main>
          ${!OWN_DROPS.includes(place.page) && html`<${Uploads} />`}
        `}
    <${Dialogs} />
    <${Toasts} />
  `;
}

function Navigation({ path }) {
  return html`
    <header class="shell">
      <a class="brand" href="/"><img src="/assets/icon.svg" alt="" width="28" height="28" /><span translate=${false}>visavis</span></a>
      <nav aria-label=${t("shell.navigation")}>
        <ul>
          ${MAIN_LINKS.map((link) => html`<${Link} link=${link} path=${path} />`)}
          ${MORE_LINKS.map((link) => html`<${Link} link=${link} path=${path} class="wide" />`)}
          <li class="narrow"><${More} path=${path} /></li>
        </ul>
      </nav>
    </header>
  `;
}

/** On a phone the links for which the bar has no room. */
function More({ path }) {
  const [open, setOpen] = useState(false);
  useEffect(() => setOpen(false), [path]);
  const close = (event) => event.key === "Escape" && setOpen(false);
  const current = MORE_LINKS.some((link) => isWithin(path, link[0]));
  return html`
    <div class="more" onKeyDown=${close}>
      <button class="link" type="button" aria-expanded=${open} aria-controls="more" data-current=${current}
        onClick=${() => setOpen(!open)}>
        <${Icon} name="more" />${t("shell.more")}
      </button>
      <ul id="more" hidden=${!open}>
        ${MORE_LINKS.map((link) => html`<${Link} link=${link} path=${path} />`)}
      </ul>
    </div>
  `;
}

function Link({ link: [target, page], path, class: kind }) {
  return html`
    <li class=${kind}>
      <a class="link" href=${target} aria-current=${isWithin(path, target) ? "page" : null}>
        <${Icon} name=${page} />${t(`${page}.title`)}
      </a>
    </li>
  `;
}

const isWithin = (path, target) => path === target || (target !== "/" && path.startsWith(`${target}/`));

await useLanguage(firstLanguage());
await loadSession().catch(() => {}); // the page asks for a token, or tells that there is no server
render(html`<${App} />`, document.body);
