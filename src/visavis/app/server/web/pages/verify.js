// Whether two photos show one person, and how that is to be understood.

import { api, get } from "../api.js";
import { Problem, Skeleton } from "../components/empty.js";
import { strangers } from "../components/face.js";
import { Head } from "../components/head.js";
import { Odds } from "../components/odds.js";
import { FoundFaces, PhotoInput } from "../components/photo_input.js";
import { percent, t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";

export default function Verify() {
  const [files, setFiles] = useState([null, null]);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const [calibration, setCalibration] = useState(null);
  const [exponent, setExponent] = useState(-3); // of the false-match rate from which on we say "same"
  useEffect(() => {
    get("/calibration").then(setCalibration, setError);
  }, []);
  useEffect(() => {
    setAnswer(null);
    setError(null);
    if (!files[0] || !files[1]) return undefined;
    const asking = new AbortController();
    const form = new FormData();
    form.append("photo", files[0]);
    form.append("other", files[1]);
    api("/verify", { method: "POST", form, signal: asking.signal }).then(
      setAnswer,
      (failure) => failure.name !== "AbortError" && setError(failure),
    );
    return () => asking.abort();
  }, files);
  const put = (place) => (file) => setFiles((before) => before.map((one, index) => (index === place ? file : one)));
  const paste = files[0] ? 1 : 0;

  return html`
    <${Head} title=${t("verify.title")} lead=${t("verify.lead")} />
    <div class="two-photos">
      ${files.map(
        (file, place) => html`<${PhotoInput} key=${place} label=${t("verify.photo", { place: place + 1 })}
          paste=${place === paste} onPhoto=${put(place)}>
          ${file && html`<${FoundFaces} file=${file} seen=${answer && [answer.faces[place]]} chosen=${0} />`}
        <//>`,
      )}
    </div>
    <div aria-live="polite">
      ${error && html`<${Problem} error=${error} />`}
      ${files[0] && files[1] && !answer && !error && html`<${Skeleton} count=${1} class="line" />`}
      ${answer && html`<${Verdict} answer=${answer} limit=${10 ** exponent} />`}
    </div>
    ${calibration?.points.length > 1 &&
    html`<${Odds} calibration=${calibration} answer=${answer} exponent=${exponent} onExponent=${setExponent} />`}
    ${calibration?.points.length === 0 && html`<p class="lead">${t("verify.no_curve")}</p>`}
  `;
}

function Verdict({ answer, limit }) {
  const same = answer.false_match_rate <= limit;
  const key = same ? "verify.same" : answer.probability > 0.5 ? "verify.unsure" : "verify.different";
  return html`
    <section class="verdict ${same ? "same" : "different"}">
      <h2>${t(key)}</h2>
      <p>${t("match.probability", { probability: percent(answer.probability) })}</p>
      <p>${t("match.rate", { strangers: strangers(answer.false_match_rate) })}</p>
    </section>
  `;
}
