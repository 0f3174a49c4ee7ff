// Folders of the server that are indexed: starting, watching and stopping it.

import { api, get, watch } from "../api.js";
import { t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";
import { tellChange } from "../uploading.js";
import { toastError } from "./toasts.js";

const SHOWN = 8;
const isOver = (job) => job.state !== "waiting" && job.state !== "running";

/** `roots`: below which folders may be; `onDone`: a job has ended. */
export function IndexJobs({ roots, onDone }) {
  const [jobs, setJobs] = useState([]);
  const load = () => get("/index/jobs").then((all) => setJobs(all.slice(0, SHOWN)), toastError);
  useEffect(() => {
    load();
  }, []);

  const start = async (event) => {
    event.preventDefault();
    const folder = new FormData(event.target).get("folder");
    try {
      await api("/index/jobs", { method: "POST", json: { folder } });
    } catch (error) {
      toastError(error);
    }
    load();
  };
  const update = (job) => {
    setJobs((all) => all.map((one) => (one.id === job.id ? job : one)));
    if (!isOver(job)) return;
    tellChange();
    onDone();
  };
  return html`
    <section class="part" aria-labelledby="part-folders">
      <h2 id="part-folders">${t("settings.folders")}</h2>
      <p class="lead">${t("settings.folders_lead")}</p>
      ${roots.length
        ? html`
            <form onSubmit=${start}>
              <label>
                ${t("settings.folder")}
                <input name="folder" list="roots" required defaultValue=${roots[0]} spellcheck=${false} />
              </label>
              <datalist id="roots">${roots.map((root) => html`<option value=${root}></option>`)}</datalist>
              <p class="lead">${t("settings.roots")} ${roots.map((root) => html`<code translate=${false}>${root}</code> `)}</p>
              <button>${t("settings.index")}</button>
            </form>
          `
        : html`<p>${t("settings.no_roots")}</p>`}
      ${jobs.length > 0 &&
      html`
        <h3>${t("settings.jobs")}</h3>
        <ul class="rows">
          ${jobs.map((job) => html`<${Job} key=${job.id} job=${job} onUpdate=${update} />`)}
        </ul>
      `}
    </section>
  `;
}

function Job({ job, onUpdate }) {
  const over = isOver(job);
  useEffect(() => {
    if (over) return undefined;
    const end = watch(`/index/jobs/${job.id}/events`, {
      job: (now) => {
        if (isOver(now)) end(); // else the browser asks again
        onUpdate(now);
      },
    });
    return end;
  }, [over]);
  const cancel = () => api(`/index/jobs/${job.id}`, { method: "DELETE" }).catch(toastError);
  return html`
    <li class="job">
      <span translate=${false}>${job.folder}</span>
      <small>${t(`settings.job_${job.state}`, { ...job, total: job.total ?? 0 })}</small>
      ${job.error && html`<small translate=${false}>${job.error}</small>`}
      ${!over &&
      html`
        <progress max=${job.total || null} value=${job.total ? job.done : null} aria-label=${t("upload.index_progress")}></progress>
        <button class="secondary" onClick=${cancel}>${t("shell.cancel")}</button>
      `}
    </li>
  `;
}
