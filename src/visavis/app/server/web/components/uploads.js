// What is seen of adding photos: the buttons, the place to drop on, and how far it has come.

import { bytes, t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { may } from "../session.js";
import {
  addFiles,
  cancelUpload,
  dismissUpload,
  filesOfDrop,
  onUpload,
  resumeUpload,
  uploadStatus,
} from "../uploading.js";
import { errorTitle } from "./empty.js";
import { Icon } from "./icons.js";

/** Buttons that choose photos, or a folder of them. */
export function AddPhotos() {
  const files = useRef(null);
  const folder = useRef(null);
  const add = (event) => {
    addFiles([...event.target.files].filter((file) => !file.name.startsWith(".")));
    event.target.value = ""; // so that the same may be chosen again
  };
  return html`
    <button onClick=${() => files.current.click()}><${Icon} name="add" />${t("photos.add")}</button>
    <button class="secondary add-folder" onClick=${() => folder.current.click()}>
      <${Icon} name="folder" />${t("photos.add_folder")}
    </button>
    <input ref=${files} type="file" multiple accept="image/*,.heic,.heif,.avif" hidden onChange=${add} />
    <input ref=${folder} type="file" webkitdirectory hidden onChange=${add} />
  `;
}

/** Takes what is dropped anywhere, unless a page has taken it, and shows how far it has come. */
export function Uploads() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    if (!may("write")) return undefined;
    const taken = (event) => event.defaultPrevented || !event.dataTransfer.types.includes("Files");
    const onOver = (event) => {
      if (taken(event)) return setOver(false);
      event.preventDefault();
      setOver(true);
    };
    const onLeave = (event) => event.relatedTarget === null && setOver(false);
    const onDrop = async (event) => {
      setOver(false);
      if (taken(event)) return;
      event.preventDefault();
      addFiles(await filesOfDrop(event.dataTransfer));
    };
    addEventListener("dragover", onOver);
    addEventListener("dragleave", onLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onOver);
      removeEventListener("dragleave", onLeave);
      removeEventListener("drop", onDrop);
    };
  }, []);
  return html`
    ${over && html`<div class="drop-here" role="status"><p><${Icon} name="upload" />${t("upload.drop")}</p></div>`}
    <${Progress} />
  `;
}

const TITLES = { sending: "title", paused: "paused", cancelled: "cancelled", done: "finished" };

function Progress() {
  const [status, setStatus] = useState(uploadStatus());
  useEffect(() => onUpload(setStatus), []);
  const { state, total, sent, known, refused, job, error } = status;
  if (state === "idle") return null;
  const looking = job !== null && ["waiting", "running"].includes(job.state);
  const over = !looking && state !== "sending" && state !== "paused";
  const title = state === "done" && looking ? "title" : TITLES[state];
  return html`
    <section class="uploads" aria-label=${t("upload.title")}>
      <div class="uploads-head">
        <strong role="status">${t(`upload.${title}`)}</strong>
        ${state === "paused" && html`<button onClick=${resumeUpload}>${t("upload.resume")}</button>`}
        ${(state === "sending" || state === "paused") &&
        html`<button class="secondary" onClick=${cancelUpload}>${t("upload.cancel")}</button>`}
        ${over && html`<button class="plain" aria-label=${t("shell.close")} onClick=${dismissUpload}><${Icon} name="close" /></button>`}
      </div>
      ${error && html`<p role="alert">${errorTitle(error)} <small translate=${false}>${error.message}</small></p>`}
      <p>
        ${t("upload.sent", { done: sent, total, bytes: bytes(status.bytes) })}
        ${known > 0 && html` · ${t("upload.known", { count: known })}`}
      </p>
      ${total > 0 && html`<progress max=${total} value=${sent} aria-label=${t("upload.progress")}></progress>`}
      ${job && html`<${Looking} job=${job} />`}
      ${refused.length > 0 &&
      html`
        <details open=${over}>
          <summary>${t("upload.refused", { count: refused.length })}</summary>
          <ul tabindex="0" aria-label=${t("upload.refused", { count: refused.length })}>
            ${refused.map(
              ({ name, reason, ours }) => html`<li>
                <span translate=${false}>${name}</span><small translate=${Boolean(ours)}>${reason}</small>
              </li>`,
            )}
          </ul>
        </details>
      `}
    </section>
  `;
}

function Looking({ job }) {
  if (job.state === "running") {
    const total = job.total ?? 0;
    return html`
      <p>${t("upload.indexing", { done: job.done, total })}</p>
      <progress max=${total || null} value=${total ? job.done : null} aria-label=${t("upload.index_progress")}></progress>
    `;
  }
  if (job.state === "waiting") return html`<p>${t("upload.waiting")}</p>`;
  if (job.state === "done") return html`<p>${t("upload.indexed", { count: job.added })}</p>`;
  return html`<p role="alert">${t("upload.index_failed")} ${job.error && html`<small translate=${false}>${job.error}</small>`}</p>`;
}
