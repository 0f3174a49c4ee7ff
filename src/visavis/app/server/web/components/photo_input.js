// Takes one photo: chosen, dropped, pasted, or made with the camera. It is looked at and not kept.

import { t } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icons.js";

/** `onPhoto(file)`; `paste`: also what is pasted anywhere on the page. */
export function PhotoInput({ label, onPhoto, paste = false, children }) {
  const input = useRef(null);
  const [over, setOver] = useState(false);
  const [camera, setCamera] = useState(false);
  useEffect(() => {
    if (!paste) return undefined;
    const onPaste = (event) => {
      const [file] = imagesOf(event.clipboardData);
      if (file) onPhoto(file);
    };
    addEventListener("paste", onPaste);
    return () => removeEventListener("paste", onPaste);
  });
  const onDrop = (event) => {
    event.preventDefault();
    setOver(false);
    const [file] = imagesOf(event.dataTransfer);
    if (file) onPhoto(file);
  };
  const onOver = (event) => {
    event.preventDefault();
    setOver(true);
  };
  const choose = (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) onPhoto(file);
  };
  return html`
    <section class="photo-input" data-over=${over} aria-label=${label} onDragOver=${onOver}
      onDragLeave=${() => setOver(false)} onDrop=${onDrop}>
      ${children ?? html`<${Icon} name="photos" /><p>${t(paste ? "input.drop_or_paste" : "input.drop")}</p>`}
      <div class="actions">
        <button class="secondary" onClick=${() => input.current.click()}>
          <${Icon} name="folder" />${t("input.choose")}
        </button>
        ${navigator.mediaDevices &&
        html`<button class="secondary" onClick=${() => setCamera(true)}>
          <${Icon} name="camera" />${t("input.camera")}
        </button>`}
      </div>
      <input ref=${input} type="file" accept="image/*,.heic,.heif,.avif" hidden onChange=${choose} />
      ${camera &&
      html`<${Camera} onPhoto=${(file) => (setCamera(false), onPhoto(file))} onClose=${() => setCamera(false)} />`}
    </section>
  `;
}

const isImage = ({ type, name }) => type.startsWith("image/") || /\.(hei[cf]|avif)$/i.test(name);
const imagesOf = (transfer) => [...(transfer?.files ?? [])].filter(isImage);

/** Shows the camera's picture; nothing of it leaves the browser until one is taken, and then the camera is off. */
function Camera({ onPhoto, onClose }) {
  const video = useRef(null);
  const [error, setError] = useState(null);
  const [ready, setReady] = useState(false);
  const stream = useRef(null);
  const stop = () => stream.current?.getTracks().forEach((track) => track.stop());
  useEffect(() => {
    let closed = false;
    const start = async () => {
      try {
        stream.current = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
        if (closed) return stop();
        video.current.srcObject = stream.current;
      } catch (failure) {
        setError(failure);
      }
      return undefined;
    };
    start();
    return () => {
      closed = true;
      stop();
    };
  }, []);
  const take = async () => {
    const { videoWidth: width, videoHeight: height } = video.current;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    stop();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
    onPhoto(new File([blob], "camera.jpg", { type: "image/jpeg" }));
  };
  return html`
    <${Dialog} title=${t("input.camera")} class="camera" onClose=${onClose}>
      ${error
        ? html`<p role="alert">${t("input.no_camera")}</p>`
        : html`<p class="lead">${t("input.camera_text")}</p>
            <video ref=${video} autoplay playsinline muted aria-label=${t("input.camera_view")}
              onLoadedData=${() => setReady(true)}></video>`}
      <footer>
        <button class="secondary" onClick=${onClose}>${t("shell.cancel")}</button>
        ${!error && html`<button disabled=${!ready} onClick=${take}><${Icon} name="camera" />${t("input.take")}</button>`}
      </footer>
    <//>
  `;
}

/** An address for a file while it is shown. */
export function useObjectUrl(file) {
  const [url, setUrl] = useState(null);
  useEffect(() => {
    if (!file) return setUrl(null);
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [file]);
  return url;
}

/** The faces found in a photo that was just given, each a button; `seen` as the server tells of them. */
export function FoundFaces({ file, seen, chosen, onChoose }) {
  const url = useObjectUrl(file);
  const [size, setSize] = useState(null); // of the upright photo, as boxes are counted; null: cannot be shown
  const onLoad = ({ target }) => setSize({ width: target.naturalWidth, height: target.naturalHeight });
  useEffect(() => setSize(null), [file]);
  const share = (length, whole) => `${(100 * length) / whole}%`;
  const place = ([left, top, right, bottom]) => ({
    left: share(left, size.width),
    top: share(top, size.height),
    width: share(right - left, size.width),
    height: share(bottom - top, size.height),
  });
  return html`
    <div class="found-faces">
      ${url &&
      html`<img src=${url} alt=${t("input.yours")} hidden=${!size} onLoad=${onLoad} onError=${() => setSize(null)} />`}
      ${!size && seen && html`<p class="lead">${t("input.not_shown", { count: seen.length })}</p>`}
      ${size &&
      seen?.map((face, index) => {
        const label = t("input.face", { place: index + 1, count: seen.length });
        const name = face.name && html`<span translate=${false}>${face.name}</span>`;
        return onChoose
          ? html`<button key=${index} class="box" style=${place(face.box_xyxy_px)} aria-pressed=${index === chosen}
              aria-label=${label} onClick=${() => onChoose(index)}>${name}</button>`
          : html`<span key=${index} class="box" data-chosen=${index === chosen} style=${place(face.box_xyxy_px)}></span>`;
      })}
    </div>
  `;
}
