// A person's faces or photos; faces can be chosen and said to be somebody else's.

import { address, get } from "../api.js";
import { number, t } from "../i18n.js";
import { html, useEffect, useMemo, useState } from "../preact.js";
import { may } from "../session.js";
import { changed } from "../undoing.js";
import { Face, strangers } from "./face.js";
import { PickPerson } from "./pick.js";
import { toastError } from "./toasts.js";
import { Windowed } from "./windowed.js";

const DOUBTED = 1000; // faces, at most, that are weighed against the others

export function Faces({ person, faces, onChange }) {
  const [view, setView] = useState("best"); // best, doubtful or photos
  const [doubts, setDoubts] = useState(null); // hits, the least likely first
  const [chosen, setChosen] = useState(() => new Set());
  const [picking, setPicking] = useState(false);
  useEffect(() => {
    setChosen(new Set());
    setDoubts(null);
  }, [faces]);
  useEffect(() => {
    if (view === "doubtful" && !doubts) get(`/people/${person.id}/doubts`, { k: DOUBTED }).then(setDoubts, toastError);
  }, [view, doubts]);

  const photos = useMemo(() => [...new Set(faces.map((face) => face.photo))], [faces]);
  const shown = view === "doubtful" && doubts ? doubts.map((hit) => ({ ...hit.face, rate: hit.false_match_rate })) : faces;
  const toggle = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const finish = (answer) => answer && onChange();
  const split = async () => {
    const done = { done: t("person.split_done"), onUndone: onChange };
    finish(await changed("/people/split", { json: { faces: [...chosen] } }, done));
  };
  const give = async (other) => {
    setPicking(false);
    const done = { done: t("person.given"), detail: other.name, onUndone: onChange };
    finish(await changed(`/people/${other.id}/faces`, { json: { faces: [...chosen] } }, done));
  };
  const views = [["best", "person.best"], ["doubtful", "person.doubtful"], ["photos", "photos.title"]];

  return html`
    <fieldset class="views" role="radiogroup" aria-label=${t("person.show")}>
      ${views.map(
        ([name, text]) => html`<label key=${name}>
          <input type="radio" name="view" checked=${view === name} onChange=${() => setView(name)} />${t(text)}
        </label>`,
      )}
    </fieldset>
    ${view === "doubtful" && html`<p class="lead">${t("person.doubtful_lead")}</p>`}
    ${view === "photos"
      ? html`<${Windowed} key="photos" total=${photos.length} wide=${150} high=${150} label=${t("photos.title")}
          render=${(index) => html`<${Photo} id=${photos[index]} />`} />`
      : html`<${Windowed} key=${view} total=${shown.length} wide=${100} high=${148} label=${t("person.faces")}
          render=${(index) =>
            html`<${FaceCard} face=${shown[index]} chosen=${chosen.has(shown[index].id)} onToggle=${toggle} />`} />`}
    ${chosen.size > 0 &&
    html`<div class="selection" role="region" aria-label=${t("people.selection")}>
      <span>${t("person.chosen", { count: chosen.size })}</span>
      <button disabled=${chosen.size === faces.length} onClick=${split}>${t("person.split")}</button>
      <button onClick=${() => setPicking(true)}>${t("person.give")}</button>
      <button class="secondary" onClick=${() => setChosen(new Set())}>${t("shell.cancel")}</button>
    </div>`}
    ${picking &&
    html`<${PickPerson} title=${t("person.give_pick")} without=${[person.id]} onPick=${give}
      onClose=${() => setPicking(false)} />`}
  `;
}

function FaceCard({ face, chosen, onToggle }) {
  const quality = t("person.quality", { quality: number(Math.floor(100 * face.quality) / 100, { style: "percent" }) });
  const note = face.rate === undefined ? quality : strangers(face.rate);
  return html`
    <div class="face-card" data-selected=${chosen}>
      <a href=${`/?photo=${face.photo}`} aria-label=${t("person.face", { id: String(face.id) })}>
        <${Face} id=${face.id} size=${92} />
      </a>
      ${may("write")
        ? html`<label><input type="checkbox" checked=${chosen} onChange=${() => onToggle(face.id)}
            aria-label=${t("person.choose", { id: String(face.id) })} /><small>${note}</small></label>`
        : html`<small>${note}</small>`}
    </div>
  `;
}

const Photo = ({ id }) => html`
  <a class="photo" href=${`/?photo=${id}`} aria-label=${t("photos.photo", { id: String(id) })}>
    <img src=${address(`/photos/${id}/picture`, { px: 320 })} alt="" loading="lazy" decoding="async" />
  </a>
`;
