// One person: the faces and the photos, the name, and everything that can be said about who it is.

import { api, get } from "../api.js";
import { confirm, Dialog } from "../components/dialog.js";
import { Empty, Failed, Skeleton } from "../components/empty.js";
import { Face, Name, Sure } from "../components/face.js";
import { Faces } from "../components/faces.js";
import { Head } from "../components/head.js";
import { Icon } from "../components/icons.js";
import { PickPerson } from "../components/pick.js";
import { toastError } from "../components/toasts.js";
import { bytes, t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { navigate } from "../router.js";
import { may } from "../session.js";
import { changed } from "../undoing.js";

const PLAUSIBLE = 0.1; // the false-match rate up to which somebody is shown as alike
const MOST_ALIKE = 6;

export default function PersonPage({ params: { id } }) {
  const [person, setPerson] = useState(null);
  const [faces, setFaces] = useState(null);
  const [alike, setAlike] = useState([]);
  const [error, setError] = useState(null);
  const [picking, setPicking] = useState(false);
  const [asking, setAsking] = useState(false); // whether to forget
  const [forgotten, setForgotten] = useState(null);
  const [version, setVersion] = useState(0);
  const again = () => setVersion((count) => count + 1);
  useEffect(() => {
    const asking = new AbortController();
    const load = async () => {
      try {
        const path = `/people/${id}`;
        const [one, all, likely] = await Promise.all([
          get(path, {}, asking.signal),
          get(`${path}/faces`, {}, asking.signal),
          get(`${path}/alike`, { k: MOST_ALIKE }, asking.signal),
        ]);
        setPerson(one);
        setFaces(all);
        setAlike(likely.filter((other) => other.false_match_rate <= PLAUSIBLE));
        setError(null);
      } catch (failure) {
        if (failure.name !== "AbortError") setError(failure);
      }
    };
    load();
    return () => asking.abort();
  }, [id, version]);

  if (forgotten) return html`<${Forgotten} proof=${forgotten} />`;
  if (error) return html`<${Head} title=${t("people.title")} /><${Failed} error=${error} onRetry=${again} />`;
  if (!person || !faces) return html`<${Head} title=${t("people.title")} /><${Skeleton} count=${18} />`;

  const photos = new Set(faces.map((face) => face.photo)).size;
  const mergeWith = async (other) => {
    setPicking(false);
    // a name is kept: the one without takes the other's, and of two names that of the person merged into
    const [into, gone] = other.name !== null && person.name === null ? [other, person] : [person, other];
    const both = person.name !== null && other.name !== null;
    const text = both ? t("people.merge_names", { name: into.name, lost: gone.name }) : t("person.merge_text");
    const question = { title: t("people.merge_title", { count: 2 }), text, action: t("people.merge"), danger: false };
    if (!(await confirm(question))) return;
    const done = { done: t("people.merged"), detail: into.name, onUndone: again };
    if (!(await changed(`/people/${into.id}/merge`, { json: { others: [gone.id] } }, done))) return;
    if (into.id === person.id) again();
    else navigate(`/people/${into.id}`, { replace: true });
  };
  const separate = async (other) => {
    const done = { done: t("person.separated"), onUndone: again };
    if (await changed(`/people/${id}/separate`, { json: { others: [other.id] } }, done)) again();
  };
  const forget = async (uploads) => {
    setAsking(false);
    try {
      setForgotten(await api(`/people/${id}`, { method: "DELETE", query: { uploads } }));
    } catch (failure) {
      toastError(failure);
    }
  };

  const counts = { faces: t("people.faces", { count: faces.length }), photos: t("photos.count", { count: photos }) };
  return html`
    <${Head} title=${person.name ?? t("people.nameless")} data=${person.name !== null}
      lead=${t("person.counts", counts)}>
      ${may("write") && html`<button class="secondary" onClick=${() => setPicking(true)}>${t("person.merge")}</button>`}
      ${may("admin") &&
      html`<button class="danger" onClick=${() => setAsking(true)}><${Icon} name="delete" />${t("person.forget")}</button>`}
    <//>
    ${may("write") && html`<${Rename} key=${person.name} person=${person} onDone=${again} onMerge=${mergeWith} />`}
    ${alike.length > 0 && html`<${LooksLike} alike=${alike} onMerge=${mergeWith} onSeparate=${separate} />`}
    ${faces.length
      ? html`<${Faces} person=${person} faces=${faces} onChange=${again} />`
      : html`<${Empty} icon="faces" title=${t("person.no_faces")} />`}
    ${picking &&
    html`<${PickPerson} title=${t("person.merge_pick")} without=${[id]} onPick=${mergeWith}
      onClose=${() => setPicking(false)} />`}
    ${asking &&
    html`<${AskToForget} faces=${faces.length} photos=${photos} onForget=${forget} onClose=${() => setAsking(false)} />`}
  `;
}

/** The name, to be typed over; one that somebody has already asks whether it is the same person. */
function Rename({ person, onDone, onMerge }) {
  const [open, setOpen] = useState(person.name === null);
  const submit = async (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("name").trim();
    if (!name || name === person.name) return setOpen(person.name === null);
    const found = await get("/people", { name, limit: 1000 }).catch(() => null); // the server refuses what this misses
    const same = found?.people.find((one) => one.name === name);
    if (same) return onMerge(same);
    const done = { done: t("person.named"), detail: name, onUndone: onDone };
    if (await changed(`/people/${person.id}`, { method: "PATCH", json: { name } }, done)) onDone();
  };
  if (!open) {
    return html`
      <p><button class="secondary" onClick=${() => setOpen(true)}><${Icon} name="edit" />${t("person.rename")}</button></p>
    `;
  }
  const close = (event) => event.key === "Escape" && person.name !== null && setOpen(false);
  return html`
    <form class="rename" onSubmit=${submit} onKeyDown=${close}>
      <label>
        ${t(person.name === null ? "person.who" : "person.name")}
        <input name="name" value=${person.name ?? ""} maxlength="200" required autocomplete="off"
          autofocus=${person.name !== null} spellcheck="false" />
      </label>
      <button>${t("person.save")}</button>
    </form>
  `;
}

const LooksLike = ({ alike, onMerge, onSeparate }) => html`
  <section class="looks-like" aria-labelledby="alike">
    <h2 id="alike">${t("person.alike")}</h2>
    <ul>
      ${alike.map(
        ({ person, probability, false_match_rate: rate }) => html`<li key=${person.id}>
          <a href=${`/people/${person.id}`}>
            <${Face} id=${person.best_face} size=${64} /><strong><${Name} person=${person} /></strong>
          </a>
          <${Sure} probability=${probability} rate=${rate} />
          ${may("write") &&
          html`<span class="actions">
            <button class="secondary" onClick=${() => onMerge(person)}>${t("person.same")}</button>
            <button class="secondary" onClick=${() => onSeparate(person)}>${t("person.other")}</button>
          </span>`}
        </li>`,
      )}
    </ul>
  </section>
`;

function AskToForget({ faces, photos, onForget, onClose }) {
  const uploads = useRef(null);
  return html`
    <${Dialog} title=${t("person.forget_title")} onClose=${onClose}>
      <p>${t("person.forget_deleted")}</p>
      <ul>
        <li>${t("person.forget_faces", { count: faces })}</li>
        <li>${t("person.forget_name")}</li>
        <li>${t("person.forget_log")}</li>
      </ul>
      <p>${t("person.forget_kept")}</p>
      <ul>
        <li>${t("person.forget_photos", { count: photos })}</li>
        <li>${t("person.forget_copies")}</li>
      </ul>
      <label><input ref=${uploads} type="checkbox" />${t("person.forget_uploads")}</label>
      <footer>
        <button class="secondary" onClick=${onClose}>${t("shell.cancel")}</button>
        <button class="danger" onClick=${() => onForget(uploads.current.checked)}>${t("person.forget")}</button>
      </footer>
    <//>
  `;
}

/** What the server has deleted, and what it found when it looked through all its files afterwards. */
function Forgotten({ proof }) {
  const clean = proof.traces === 0;
  const looked = { count: proof.files, bytes: bytes(proof.bytes) };
  return html`
    <${Head} title=${t("person.forgotten")} />
    <div role="status">
      <ul class="proof">
        <li><${Icon} name="done" />${t("person.proof_faces", { count: proof.faces })}</li>
        ${proof.names > 0 && html`<li><${Icon} name="done" />${t("person.proof_name")}</li>`}
        <li><${Icon} name="done" />${t("person.proof_log", { count: proof.log_entries })}</li>
        ${proof.uploads > 0 && html`<li><${Icon} name="done" />${t("person.proof_uploads", { count: proof.uploads })}</li>`}
        <li>
          <${Icon} name=${clean ? "done" : "warning"} />
          ${clean ? t("person.proof_clean", looked) : t("person.proof_traces", { count: proof.traces })}
        </li>
      </ul>
    </div>
    ${proof.photos.length > 0 &&
    html`<details>
      <summary>${t("person.proof_photos", { count: proof.photos.length })}</summary>
      <ul class="rows">${proof.photos.map((path) => html`<li key=${path} translate=${false}>${path}</li>`)}</ul>
    </details>`}
    <a role="button" href="/people">${t("person.back")}</a>
  `;
}
