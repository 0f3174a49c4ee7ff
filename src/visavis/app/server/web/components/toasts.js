// Short messages in the corner. Errors stay until they are closed; the rest go by themselves.

import { t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";
import { errorTitle } from "./empty.js";
import { Icon } from "./icons.js";

const SHOWN_MS = 6000;
const ACTION_MS = 20_000; // where something can be done about it
const MOST = 4;

let show = () => {};
let last = 0;

/** Tell the user; `detail` is data, such as a name or the server's words; `action`, {text, act}, may be taken once. */
export const toast = (text, { kind = "done", detail, action } = {}) => show({ id: ++last, text, kind, detail, action });

/** Tell the user about an error; one that the user caused by cancelling is none. */
export function toastError(error) {
  if (error.name === "AbortError") return;
  if (error.name !== "ApiError") throw error; // a fault of these pages is for the console
  if (error.status !== 401) toast(errorTitle(error), { kind: "warning", detail: error.message }); // 401: the page asks
}

export function Toasts() {
  const [shown, setShown] = useState([]);
  const close = (id) => setShown((others) => others.filter((one) => one.id !== id));
  useEffect(() => {
    show = (one) => {
      setShown((others) => [...others.slice(1 - MOST), one]);
      if (one.kind !== "warning") setTimeout(() => close(one.id), one.action ? ACTION_MS : SHOWN_MS);
    };
  }, []);
  return html`
    <div class="toasts" role="status">
      ${shown.map(
        ({ id, text, kind, detail, action }) => html`
          <div class="toast ${kind}" key=${id}>
            <${Icon} name=${kind} />
            <div>
              ${text}
              ${detail && html`<small translate=${false}>${detail}</small>`}
            </div>
            ${action &&
            html`<button class="secondary" onClick=${() => (close(id), action.act())}>${action.text}</button>`}
            <button class="plain" aria-label=${t("shell.close")} onClick=${() => close(id)}><${Icon} name="close" /></button>
          </div>
        `,
      )}
    </div>
  `;
}
