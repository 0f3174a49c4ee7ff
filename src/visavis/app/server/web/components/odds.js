// The calibration as a picture: how alike different people and photos of one person are, where this pair lies, and
// what follows from where one draws the line.

import { number, percent, t } from "../i18n.js";
import { html } from "../preact.js";
import { strangers } from "./face.js";

const [WIDTH, HEIGHT] = [640, 240]; // of the drawing, which grows with the page
const [LEFT, RIGHT, TOP, BASE] = [12, 628, 34, 196];
const RATES = [-1, -2, -3, -4, -5, -6]; // exponents, marked below the axis where there is room
const TICK = 96; // wide, also in the larger letters of a phone
const [LOWEST, HIGHEST] = [-6, -1]; // exponents to choose from

export function Odds({ calibration: { points, model, measured_on: source }, answer, exponent, onExponent }) {
  const [first, last] = [points[0].evidence, points.at(-1).evidence];
  const x = (evidence) => LEFT + ((RIGHT - LEFT) * (Math.min(Math.max(evidence, first), last) - first)) / (last - first);
  const line = evidenceAt(points, exponent);
  const recognised = matchRateAt(points, line);
  const pair = answer && evidenceOf(answer.probability);
  const summary = t("odds.summary", { strangers: strangers(10 ** exponent), recognised: percent(recognised) });
  const place = pair === null ? "" : t("odds.pair_text", { strangers: strangers(answer.false_match_rate) });
  return html`
    <section class="odds" aria-labelledby="odds">
      <h2 id="odds">${t("odds.title")}</h2>
      <p class="lead">${t("odds.lead")}</p>
      <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${`${t("odds.picture")} ${place} ${summary}`}>
        <path class="hill different" d=${hill(points, "different", x)} />
        <path class="hill same" d=${hill(points, "same", x)} />
        <path class="axis" d="M${LEFT} ${BASE}H${RIGHT}" />
        ${ticks(points, x).map(
          ([one, place]) => html`<g key=${one}>
            <path class="axis" d="M${place} ${BASE}v5" />
            <text class="tick" x=${place} y=${BASE + 18}>1:${number(10 ** -one)}</text>
          </g>`,
        )}
        <text class="tick" x=${LEFT} y=${HEIGHT - 8} text-anchor="start">${t("odds.less")}</text>
        <text class="tick" x=${RIGHT} y=${HEIGHT - 8} text-anchor="end">${t("odds.more")}</text>
        <path class="limit" d="M${x(line)} ${TOP}V${BASE}" />
        ${pair !== null &&
        html`<g class="this-pair">
          <path d="M${x(pair)} ${TOP - 6}V${BASE}" />
          <circle cx=${x(pair)} cy=${BASE} r="6" />
          <text x=${Math.min(Math.max(x(pair), 60), WIDTH - 60)} y=${TOP - 14}>${t("odds.pair")}</text>
        </g>`}
      </svg>
      <ul class="legend">
        <li class="different">${t("odds.different")}</li>
        <li class="same">${t("odds.same")}</li>
        <li class="limit">${t("odds.limit")}</li>
      </ul>
      <label>
        ${t("odds.choose")}
        <input type="range" min=${-HIGHEST} max=${-LOWEST} step="0.25" value=${-exponent}
          aria-valuetext=${strangers(10 ** exponent)} onInput=${(event) => onExponent(-Number(event.target.value))} />
      </label>
      <p>${summary}</p>
      <p class="lead">${t("odds.source", { model, source })}</p>
    </section>
  `;
}

/** Exponents with their places on the axis, none too near the one before. */
function ticks(points, x) {
  const places = RATES.map((one) => [one, x(evidenceAt(points, one))]).filter(([, place]) => place < RIGHT);
  return places.reduce((kept, next) => (kept.length && next[1] - kept.at(-1)[1] < TICK ? kept : [...kept, next]), []);
}

/** A filled curve through the middles of a histogram's bins; each kind of pair has its own height. */
function hill(points, kind, x) {
  const highest = Math.max(...points.map((point) => point[kind]));
  const places = points.slice(0, -1).map((point, index) => {
    const middle = (point.evidence + points[index + 1].evidence) / 2;
    return `${x(middle).toFixed(1)} ${(BASE - ((BASE - TOP) * point[kind]) / highest).toFixed(1)}`;
  });
  return `M${LEFT} ${BASE}L${places.join("L")}L${RIGHT} ${BASE}Z`;
}

/** The odds of a probability, as a decimal logarithm. */
const evidenceOf = (probability) => Math.log10(probability / Math.max(1 - probability, Number.MIN_VALUE));

/** Where the false-match rate has fallen to 10 ** exponent, between two points along the logarithm. */
function evidenceAt(points, exponent) {
  const after = points.findIndex((point) => Math.log10(point.false_match_rate) <= exponent);
  if (after < 1) return points.at(after).evidence;
  const [a, b] = [points[after - 1], points[after]];
  const [high, low] = [a, b].map((point) => Math.log10(point.false_match_rate));
  return a.evidence + ((b.evidence - a.evidence) * (high - exponent)) / (high - low);
}

/** The share of pairs of one person that are at least so alike. */
function matchRateAt(points, evidence) {
  const after = points.findIndex((point) => point.evidence >= evidence);
  if (after < 1) return points.at(after).match_rate;
  const [a, b] = [points[after - 1], points[after]];
  return a.match_rate + ((b.match_rate - a.match_rate) * (evidence - a.evidence)) / (b.evidence - a.evidence);
}
