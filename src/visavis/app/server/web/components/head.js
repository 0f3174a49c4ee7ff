// A page's heading: its title, a line beneath, and what can be done there.

import { html, useEffect } from "../preact.js";

/** `title` also names the browser's tab; `data`: it is somebody's name, not a word of ours. */
export function Head({ title, lead, data = false, children }) {
  useEffect(() => {
    document.title = `${title} · visavis`;
  }, [title]);
  return html`
    <div class="head">
      <div>
        <h1 translate=${!data}>${title}</h1>
        ${lead && html`<p class="lead">${lead}</p>`}
      </div>
      <div class="actions">${children}</div>
    </div>
  `;
}
