// Whoever resembles a face of a photo that is dropped, pasted, chosen or taken with the camera.

import { address, api } from "../api.js";
import { Empty, Problem, Skeleton } from "../components/empty.js";
import { Face, Name, Sure } from "../components/face.js";
import { Head } from "../components/head.js";
import { FoundFaces, PhotoInput } from "../components/photo_input.js";
import { t } from "../i18n.js";
import { html, useRef, useState } from "../preact.js";

const SHOWN = 60;
const PLAUSIBLE = 0.05; // the false-match rate up to which a hit is shown at once

export default function Search() {
  const [file, setFile] = useState(null);
  const [seen, setSeen] = useState(null);
  const [chosen, setChosen] = useState(null);
  const [hits, setHits] = useState(null);
  const [error, setError] = useState(null);
  const asking = useRef(null); // ends the question that is under way

  const ask = async (question) => {
    asking.current?.abort();
    asking.current = new AbortController();
    setError(null);
    setHits(null);
    try {
      await question(asking.current.signal);
    } catch (failure) {
      if (failure.name !== "AbortError") setError(failure);
    }
  };
  const post = (path, photo, signal, query) => {
    const form = new FormData();
    form.append("photo", photo);
    return api(path, { method: "POST", form, query, signal });
  };
  const search = async (photo, face, signal) => {
    setChosen(face);
    setHits(await post("/search", photo, signal, { face, k: SHOWN }));
  };
  const onPhoto = (photo) => {
    setFile(photo);
    setSeen(null);
    ask(async (signal) => {
      const found = await post("/identify", photo, signal);
      setSeen(found);
      if (found.length) await search(photo, largest(found), signal);
    });
  };

  return html`
    <${Head} title=${t("search.title")} lead=${t("search.lead")} />
    <${PhotoInput} label=${t("search.photo")} paste onPhoto=${onPhoto}>
      ${file &&
      html`<${FoundFaces} file=${file} seen=${seen} chosen=${chosen}
        onChoose=${(face) => ask((signal) => search(file, face, signal))} />`}
    <//>
    <div aria-live="polite">
      ${seen?.length > 1 && html`<p class="lead">${t("search.choose", { count: seen.length })}</p>`}
      ${error && html`<${Problem} error=${error} />`}
      ${file && !error && (!seen || (seen.length > 0 && !hits)) && html`<${Skeleton} count=${6} />`}
      ${seen?.length === 0 && html`<${Empty} icon="faces" title=${t("search.no_face")} text=${t("search.no_face_text")} />`}
      ${hits && html`<${Hits} hits=${hits} />`}
    </div>
  `;
}

const area = ({ box_xyxy_px: [left, top, right, bottom] }) => (right - left) * (bottom - top);
const largest = (seen) => seen.reduce((best, face, index) => (area(face) > area(seen[best]) ? index : best), 0);

function Hits({ hits }) {
  if (!hits.length) return html`<${Empty} icon="search" title=${t("search.empty")} />`;
  const likely = hits.filter((hit) => hit.false_match_rate <= PLAUSIBLE);
  const rest = hits.slice(likely.length);
  return html`
    ${likely.length
      ? html`<h2>${t("search.hits")}</h2>`
      : html`<${Empty} icon="search" title=${t("search.nobody_alike")} />`}
    <${HitList} hits=${likely} />
    ${rest.length > 0 &&
    html`<details class="rest">
      <summary>${t("search.less", { count: rest.length })}</summary>
      <${HitList} hits=${rest} />
    </details>`}
  `;
}

const HitList = ({ hits }) => html`
  <ul class="hits">
    ${hits.map(
      ({ face, probability, false_match_rate: rate }) => html`<li key=${face.id}>
        <div class="pair">
          <${Face} id=${face.id} size=${96} />
          <a href=${`/?photo=${face.photo}`} aria-label=${t("photos.photo", { id: String(face.photo) })}>
            <img src=${address(`/photos/${face.photo}/picture`, { px: 320 })} alt="" loading="lazy" width="96" height="96" />
          </a>
        </div>
        ${face.person
          ? html`<a href=${`/people/${face.person}`}><${Name} person=${face} /></a>`
          : html`<em>${t("search.nobody")}</em>`}
        <${Sure} probability=${probability} rate=${rate} />
      </li>`,
    )}
  </ul>
  `;
