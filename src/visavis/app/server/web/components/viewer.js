// One photo, as large as the window: its faces with their names, its details, and the way to its neighbours.

import { address, get } from "../api.js";
import { date, t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { Icon } from "./icons.js";
import { toastError } from "./toasts.js";

/** `ids`: the photos before and after; `onShow(id)` and `onClose()` change what is shown. */
export function Viewer({ id, ids, onShow, onClose }) {
  const dialog = useRef(null);
  const [told, setTold] = useState(null); // a photo with `people`, its faces
  const [failed, setFailed] = useState(null); // the id of one that cannot be shown
  const [boxes, setBoxes] = useState(true);
  const [details, setDetails] = useState(false);
  const photo = told?.id === id ? told : null; // not yet that of the photo before
  const place = ids.indexOf(id);
  const [previous, next] = [ids[place - 1], place < 0 ? undefined : ids[place + 1]];

  useEffect(() => {
    const element = dialog.current;
    element.showModal();
    return () => element.close();
  }, []);
  useEffect(() => {
    const asking = new AbortController();
    Promise.all([get(`/photos/${id}`, {}, asking.signal), get(`/photos/${id}/faces`, {}, asking.signal)]).then(
      ([one, people]) => setTold({ ...one, people }),
      toastError,
    );
    return () => asking.abort();
  }, [id]);
  useEffect(() => {
    for (const one of [next, previous]) if (one) new Image().src = large(one);
  }, [photo]);

  const onKeyDown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft" && previous) onShow(previous);
    else if (event.key === "ArrowRight" && next) onShow(next);
    else return;
    event.preventDefault();
  };
  const onCancel = (event) => {
    event.preventDefault(); // whoever shows the viewer takes it away
    onClose();
  };
  const label = t("photos.photo", { id: String(id) });
  return html`
    <dialog class="viewer" ref=${dialog} tabindex="-1" autofocus aria-label=${label} onCancel=${onCancel} onKeyDown=${onKeyDown}>
      <div class="bar">
        <span>${photo?.taken_at ? date(photo.taken_at) : label}</span>
        <button class="plain" aria-pressed=${boxes} aria-label=${t("viewer.faces")} onClick=${() => setBoxes(!boxes)}>
          <${Icon} name="faces" />
        </button>
        <button class="plain" aria-expanded=${details} aria-label=${t("viewer.details")}
          onClick=${() => setDetails(!details)}><${Icon} name="info" /></button>
        <button class="plain" aria-label=${t("viewer.close")} onClick=${onClose}><${Icon} name="close" /></button>
      </div>
      <div class="stage">
        <${Step} name="left" label=${t("viewer.previous")} id=${previous} onShow=${onShow} />
        ${failed === id
          ? html`<p class="gone">${t("viewer.gone")}</p>`
          : html`
              <figure style=${photo && { aspectRatio: `${photo.width_px} / ${photo.height_px}`, "--ratio": photo.width_px / photo.height_px }}>
                <img key=${id} src=${large(id)} alt=${label} onError=${() => setFailed(id)} />
                ${boxes && photo?.people.map((face) => html`<${Box} key=${face.id} face=${face} photo=${photo} />`)}
              </figure>
            `}
        <${Step} name="right" label=${t("viewer.next")} id=${next} onShow=${onShow} />
      </div>
      ${details && photo && html`<${Details} photo=${photo} />`}
    </dialog>
  `;
}

const large = (id) => address(`/photos/${id}/picture`, { px: 1600 });

const Step = ({ name, label, id, onShow }) => html`
  <button class="plain step" aria-label=${label} disabled=${!id} onClick=${() => onShow(id)}><${Icon} name=${name} /></button>
`;

function Box({ face, photo }) {
  const [left, top, right, bottom] = face.box_xyxy_px;
  const share = (length, whole) => `${(100 * length) / whole}%`;
  const place = {
    left: share(left, photo.width_px),
    top: share(top, photo.height_px),
    width: share(right - left, photo.width_px),
    height: share(bottom - top, photo.height_px),
  };
  const name = face.name && html`<span translate=${false}>${face.name}</span>`;
  return face.person
    ? html`<a class="box" href=${`/people/${face.person}`} style=${place} aria-label=${face.name ?? t("viewer.unknown")}
        translate=${!face.name}>${name}</a>`
    : html`<span class="box" style=${place}></span>`;
}

const Details = ({ photo }) => html`
  <aside class="details" aria-label=${t("viewer.details")}>
    <h2>${t("viewer.people")}</h2>
    ${photo.people.length
      ? html`<ul class="faces">
          ${photo.people.map(
            (face) => html`<li key=${face.id}>
              <img src=${address(`/faces/${face.id}/thumbnail`)} alt="" width="48" height="48" />
              ${face.person
                ? html`<a href=${`/people/${face.person}`} translate=${!face.name}>${face.name ?? t("viewer.unknown")}</a>`
                : t("viewer.unknown")}
            </li>`,
          )}
        </ul>`
      : html`<p>${t("viewer.nobody")}</p>`}
    <dl>
      ${photo.taken_at && html`<dt>${t("viewer.taken")}</dt><dd>${date(photo.taken_at)}</dd>`}
      <dt>${t("viewer.size")}</dt>
      <dd>${t("viewer.pixels", { width: photo.width_px, height: photo.height_px })}</dd>
      <dt>${t("viewer.files")}</dt>
      ${photo.paths.map((path) => html`<dd translate=${false}>${path}</dd>`)}
    </dl>
  </aside>
`;
