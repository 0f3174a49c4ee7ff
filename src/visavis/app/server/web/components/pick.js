// Chooses somebody by name.

import { get } from "../api.js";
import { t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";
import { Dialog } from "./dialog.js";
import { Face, Name } from "./face.js";
import { toastError } from "./toasts.js";

const SHOWN = 30;
const TYPING_MS = 150;

/** `onPick(person)` is called with somebody who is none of `without`. */
export function PickPerson({ title, without = [], onPick, onClose }) {
  const [text, setText] = useState("");
  const [found, setFound] = useState(null);
  useEffect(() => {
    const asking = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const query = { named: true, limit: SHOWN, name: text.trim() || null };
        setFound((await get("/people", query, asking.signal)).people.filter(({ id }) => !without.includes(id)));
      } catch (error) {
        toastError(error);
      }
    }, found ? TYPING_MS : 0);
    return () => {
      clearTimeout(timer);
      asking.abort();
    };
  }, [text]);
  const submit = (event) => {
    event.preventDefault();
    if (found?.length === 1) onPick(found[0]);
  };
  return html`
    <${Dialog} title=${title} class="pick" onClose=${onClose}>
      <form onSubmit=${submit}>
        <input type="search" value=${text} aria-label=${t("people.find")} placeholder=${t("people.find")} autofocus
          autocomplete="off" onInput=${(event) => setText(event.target.value)} />
      </form>
      <ul class="picks">
        ${found?.map(
          (person) => html`<li key=${person.id}>
            <button class="plain" type="button" onClick=${() => onPick(person)}>
              <${Face} id=${person.best_face} size=${44} /><${Name} person=${person} />
            </button>
          </li>`,
        )}
      </ul>
      ${found?.length === 0 && html`<p class="lead">${t("people.none_found")}</p>`}
      <footer><button class="secondary" onClick=${onClose}>${t("shell.cancel")}</button></footer>
    <//>
  `;
}
