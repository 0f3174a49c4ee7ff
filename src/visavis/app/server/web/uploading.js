// Adding photos: hashes them, leaves out what the server knows, sends the rest in batches, and follows the index job.
// It lives beside the pages, so that one may walk about while it works.

import { api, upload, watch } from "./api.js";
import { t } from "./i18n.js";

const BATCH_FILES = 8;
const BATCH_BYTES = 24e6;
const NAMED_LIKE_PHOTOS = /\.(jpe?g|jpe|jfif|png|webp|hei[cf]|hif|avif|tiff?|gif|bmp|p[gnp]m|jp2)$/i;
const TELL_MS = 4000; // between two looks of pages at a gallery that is growing
const HASHED_BYTES = 256e6; // larger ones are not read into memory to be hashed

const IDLE = {
  state: "idle", // idle, sending, paused, cancelled or done
  total: 0, // files
  sent: 0, // files the server has answered about
  bytes: 0, // of them
  known: 0,
  refused: [], // {name, reason}; `ours` where the reason is a text of ours
  job: null, // the index job that takes them in
  error: null, // why it is paused
};

let status = IDLE;
let queue = [];
let running = null; // AbortController
let sending = Promise.resolve(); // one after the other
let limit = null; // {upload_bytes}
let endWatch = null;
let toldAt = 0;
const listeners = new Set();

export const uploadStatus = () => status;

/** Call `listener(status)` at every change; returns what ends it. */
export function onUpload(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Call `listener` when the gallery has got other photos. */
export function onChange(listener) {
  addEventListener("visavis-photos", listener);
  return () => removeEventListener("visavis-photos", listener);
}

export function tellChange() {
  toldAt = Date.now();
  dispatchEvent(new Event("visavis-photos"));
}

/** Add files; what is under way goes on with them. */
export function addFiles(files) {
  if (!files.length) return;
  if (status.state === "idle" || status.state === "done" || status.state === "cancelled") {
    set({ ...IDLE, job: isOver(status.job) ? null : status.job });
  }
  const photos = files.filter((file) => NAMED_LIKE_PHOTOS.test(file.name));
  const others = files.filter((file) => !photos.includes(file));
  queue.push(...photos);
  refuse(others.map((file) => ({ name: file.name, reason: t("upload.not_photo"), ours: true })));
  set({ total: status.total + photos.length });
  resumeUpload();
}

export function cancelUpload() {
  queue = [];
  running?.abort();
  set({ state: "cancelled" });
}

/** Go on after an interruption. */
export function resumeUpload() {
  sending = sending.then(send);
}

/** Put away what is shown of an upload that has ended. */
export function dismissUpload() {
  endWatch?.();
  endWatch = null;
  set(IDLE);
}

const isOver = (job) => job === null || !["waiting", "running"].includes(job.state);

async function send() {
  running = new AbortController();
  const { signal } = running;
  const files = queue; // cancelling leaves it for another
  set({ state: "sending", error: null });
  try {
    limit ??= await api("/server", { signal });
    while (files.length) {
      const batch = firstBatch(files);
      await sendBatch(batch, signal);
      files.splice(0, batch.length); // only now: what fails is sent again
    }
    set({ state: "done" });
    if (isOver(status.job)) tellChange();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.name !== "ApiError") throw error;
    set({ state: "paused", error });
  } finally {
    running = null;
  }
}

function firstBatch(files) {
  let bytes = 0;
  const end = files.findIndex((file, index) => {
    bytes += file.size;
    return index > 0 && (index === BATCH_FILES || bytes > BATCH_BYTES);
  });
  return end < 0 ? [...files] : files.slice(0, end);
}

async function sendBatch(batch, signal) {
  const fits = batch.filter((file) => file.size <= limit.upload_bytes);
  const known = await knownOf(fits, signal);
  const wanted = fits.filter((file) => !known.has(file));
  let answer = { photos: [], job: null };
  if (wanted.length) {
    const form = new FormData();
    for (const file of wanted) form.append("photos", file, "photo"); // its name is nobody's business
    answer = await upload("/photos", form, { signal });
  }
  const refused = wanted.flatMap((file, index) =>
    answer.photos[index].state === "refused" ? [{ name: file.name, reason: answer.photos[index].reason }] : [],
  );
  const tooLarge = batch
    .filter((file) => !fits.includes(file))
    .map((file) => ({ name: file.name, reason: t("error.TooLargeError"), ours: true }));
  refuse([...tooLarge, ...refused]);
  set({
    sent: status.sent + batch.length,
    bytes: status.bytes + batch.reduce((sum, file) => sum + file.size, 0),
    known: status.known + known.size + answer.photos.filter((one) => one.state === "known").length,
  });
  if (answer.job !== null && answer.job !== status.job?.id) follow(answer.job);
}

/** Of some files those that the gallery has. Browsers hash for pages of this computer or over HTTPS only. */
async function knownOf(files, signal) {
  if (!globalThis.crypto?.subtle) return new Set();
  const digests = new Map();
  for (const file of files) if (file.size <= HASHED_BYTES) digests.set(file, await sha256(file));
  if (!digests.size) return new Set();
  const { known } = await api("/photos/known", { method: "POST", json: { sha256: [...digests.values()] }, signal });
  const held = new Set(known);
  return new Set(files.filter((file) => held.has(digests.get(file))));
}

async function sha256(file) {
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Follow the newest index job; those before it are done first. */
function follow(id) {
  endWatch?.();
  set({ job: { id, state: "waiting", done: 0, total: null, added: 0 } });
  endWatch = watch(`/index/jobs/${id}/events`, {
    job: (job) => {
      set({ job });
      if (isOver(job)) {
        endWatch?.();
        endWatch = null;
      } else if (Date.now() - toldAt < TELL_MS) return;
      tellChange();
    },
  });
}

const refuse = (files) => set({ refused: [...status.refused, ...files] });

function set(changes) {
  status = { ...status, ...changes };
  for (const listener of listeners) listener(status);
}

addEventListener("beforeunload", (event) => {
  if (status.state === "sending") event.preventDefault(); // the browser asks whether to leave
});

/** The files of a drop, those in folders too; hidden ones are passed over. */
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(filesOfEntry))).flat();
}

async function filesOfEntry(entry) {
  if (entry.name.startsWith(".")) return [];
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at most
    if (!some.length) break;
    for (const inner of some) found.push(...(await filesOfEntry(inner)));
  }
  return found;
}
