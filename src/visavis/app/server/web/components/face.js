// Faces, and how sure an answer about them is: in words and as a rate, never as a bare similarity.

import { address } from "../api.js";
import { number, percent, t } from "../i18n.js";
import { html, useState } from "../preact.js";
import { Icon } from "./icons.js";

const RAREST = 1e-9; // below this nothing was measured

/** A face's picture; what it shows is said beside it unless `alt` says it. */
export function Face({ id, size = 96, alt = "" }) {
  const [failed, setFailed] = useState(false);
  if (!id || failed) return html`<span class="face none" style=${square(size)}><${Icon} name="people" /></span>`;
  return html`<img class="face" src=${address(`/faces/${id}/thumbnail`)} alt=${alt} width=${size} height=${size}
    style=${square(size)} decoding="async" onError=${() => setFailed(true)} />`;
}

const square = (size) => ({ width: `${size}px`, height: `${size}px` });

/** Somebody's name as it is, or that there is none. */
export const Name = ({ person }) =>
  person.name === null ? html`<em>${t("people.nameless")}</em>` : html`<span translate=${false}>${person.name}</span>`;

/** A false-match rate as "1 in 20,000 strangers", with two digits, for that is all it is worth. */
export function strangers(rate) {
  if (rate > 0.1) return t("match.share", { share: percent(rate) });
  const times = Number((1 / Math.max(rate, RAREST)).toPrecision(2));
  const words = times < 1e6 ? times : number(times, { notation: "compact", compactDisplay: "long" });
  return t(rate <= RAREST ? "match.rarer" : "match.one_in", { times: words });
}

/** How sure it is in one word: "certain", "likely", "possible" or "unlikely". */
export function sureness(probability) {
  if (probability >= 0.999) return "certain";
  if (probability >= 0.9) return "likely";
  return probability >= 0.3 ? "possible" : "unlikely";
}

/** Probability and false-match rate of an answer. */
export const Sure = ({ probability, rate }) => html`
  <span class="sure ${sureness(probability)}">
    <b>${percent(probability)}</b> <small>${strangers(rate)}</small>
  </span>
`;
