// Questions that need an answer before anything happens.

import { t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";

let open = () => Promise.resolve(false);

/**
 * Ask before something that cannot be undone. `text` says what is lost; `action` names what is done, as a verb.
 * Resolves to whether the user wants it.
 */
export const confirm = ({ title, text, action, danger = true }) => open({ title, text, action, danger });

export function Dialogs() {
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    open = (question) => new Promise((resolve) => setAsked({ ...question, resolve }));
  }, []);
  if (!asked) return null;
  const answer = (value) => {
    asked.resolve(value);
    setAsked(null);
  };
  return html`
    <${Dialog} title=${asked.title} onClose=${() => answer(false)}>
      <p>${asked.text}</p>
      <footer>
        <button class="secondary" onClick=${() => answer(false)}>${t("shell.cancel")}</button>
        <button class=${asked.danger ? "danger" : ""} onClick=${() => answer(true)}>${asked.action}</button>
      </footer>
    <//>
  `;
}

/** A modal dialog: the browser keeps the focus within, and gives it back. */
export function Dialog({ title, onClose, class: kind = "", children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const element = dialog.current;
    element.showModal();
    return () => element.close(); // gives the focus back
  }, []);
  const onCancel = (event) => {
    event.preventDefault(); // whoever shows the dialog takes it away
    onClose();
  };
  return html`
    <dialog ref=${dialog} class=${kind} aria-labelledby="dialog-title" onCancel=${onCancel}
      onClick=${(event) => event.target === dialog.current && onClose()}>
      <article>
        <h2 id="dialog-title">${title}</h2>
        ${children}
      </article>
    </dialog>
  `;
}
