// What a page shows while it waits, when there is nothing yet, and when something went wrong.

import { has, t } from "../i18n.js";
import { html } from "../preact.js";
import { Icon } from "./icons.js";

export const Empty = ({ icon, title, text, children }) => html`
  <section class="empty">
    <${Icon} name=${icon} />
    <h2>${title}</h2>
    ${text && html`<p>${text}</p>`}
    ${children && html`<div class="actions">${children}</div>`}
  </section>
`;

/** Grey shapes in the place of what is to come; `count` of them, of the look that the class gives. */
export const Skeleton = ({ count = 12, class: kind = "tile" }) => html`
  <div class="skeleton" role="status" aria-label=${t("shell.loading")}>
    ${Array.from({ length: count }, () => html`<span class=${kind}></span>`)}
  </div>
`;

/** An error in place of a page's content, with a way to try again. */
export const Failed = ({ error, onRetry }) => html`
  <section class="empty" role="alert">
    <${Icon} name="warning" />
    <h2>${errorTitle(error)}</h2>
    <p translate=${false}>${error.message}</p>
    ${onRetry && html`<div class="actions"><button onClick=${onRetry}>${t("shell.retry")}</button></div>`}
  </section>
`;

/** An error beside what a page shows. */
export const Problem = ({ error }) => html`
  <p class="problem" role="alert">
    <strong>${errorTitle(error)}</strong> <span translate=${false}>${error.message}</span>
  </p>
`;

/** What kind of error it is, in the user's language; its `message` is the server's own words. */
export const errorTitle = (error) => t(has(`error.${error.type}`) ? `error.${error.type}` : "error.other");
