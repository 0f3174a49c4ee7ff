// How this browser shows the gallery, what the gallery holds, and what its owner does with it as a whole.

import { address, api, get } from "../api.js";
import { confirm } from "../components/dialog.js";
import { Failed, Skeleton } from "../components/empty.js";
import { Head } from "../components/head.js";
import { Icon } from "../components/icons.js";
import { IndexJobs } from "../components/jobs.js";
import { toast, toastError } from "../components/toasts.js";
import { LANGUAGES, bytes, date, locale, number, t, useLanguage } from "../i18n.js";
import { html, useEffect, useRef, useState } from "../preact.js";
import { current, may, signOut } from "../session.js";
import { tellChange } from "../uploading.js";

const MOST_SKIPPED = 200; // shown

export default function Settings() {
  const [facts, setFacts] = useState(null);
  const [error, setError] = useState(null);
  const load = () => {
    setError(null);
    const tokens = may("admin") ? get("/tokens") : [];
    Promise.all([get("/gallery"), get("/server"), get("/models"), tokens]).then(
      ([gallery, server, models, list]) => setFacts({ gallery, server, models, tokens: list }),
      setError,
    );
  };
  useEffect(load, []);
  return html`
    <${Head} title=${t("settings.title")} />
    <div class="settings">
      <${Appearance} />
      ${error && html`<${Failed} error=${error} onRetry=${load} />`}
      ${!facts && !error && html`<${Skeleton} count=${8} class="line" />`}
      ${facts &&
      html`
        <${GalleryFacts} gallery=${facts.gallery} onChange=${load} />
        ${may("admin") && html`<${IndexJobs} roots=${facts.server.roots} onDone=${load} />`}
        <${Models} models=${facts.models} />
        <${Access} tokens=${facts.tokens} />
        ${may("admin") && html`<${Carry} onChange=${load} />`}
        <${About} gallery=${facts.gallery} server=${facts.server} />
      `}
    </div>
  `;
}

const Part = ({ name, lead, children }) => html`
  <section class="part" aria-labelledby=${`part-${name}`}>
    <h2 id=${`part-${name}`}>${t(`settings.${name}`)}</h2>
    ${lead && html`<p class="lead">${lead}</p>`}
    ${children}
  </section>
`;

function Appearance() {
  const [theme, setTheme] = useState(localStorage.getItem("visavis.theme") ?? "auto");
  const chooseTheme = ({ target }) => {
    setTheme(target.value);
    if (target.value === "auto") {
      localStorage.removeItem("visavis.theme");
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem("visavis.theme", target.value);
      document.documentElement.dataset.theme = target.value;
    }
  };
  const chooseLanguage = async ({ target }) => {
    await useLanguage(target.value, { remember: true });
    dispatchEvent(new Event("visavis-language"));
  };
  return html`
    <${Part} name="appearance">
      <div class="fields">
        <label>
          ${t("settings.language")}
          <select value=${locale()} onChange=${chooseLanguage}>
            ${Object.entries(LANGUAGES).map(([tag, name]) => html`<option value=${tag} lang=${tag} translate=${false}>${name}</option>`)}
          </select>
        </label>
        <label>
          ${t("settings.theme")}
          <select value=${theme} onChange=${chooseTheme}>
            ${["auto", "light", "dark"].map((name) => html`<option value=${name}>${t(`settings.theme_${name}`)}</option>`)}
          </select>
        </label>
      </div>
    <//>
  `;
}

function GalleryFacts({ gallery, onChange }) {
  const [busy, setBusy] = useState(false);
  const sortAnew = async () => {
    const sure = await confirm({
      title: t("settings.sort_title"),
      text: t("settings.sort_text", { count: gallery.people - gallery.named }),
      action: t("settings.sort_action"),
    });
    if (!sure) return;
    setBusy(true);
    try {
      toast(t("settings.sorted", await api("/cluster", { method: "POST", query: { fresh: true } })));
      onChange();
    } catch (error) {
      toastError(error);
    } finally {
      setBusy(false);
    }
  };
  return html`
    <${Part} name="gallery">
      <dl class="facts">
        ${["photos", "faces", "people", "named", "skipped"].map(
          (name) => html`<div><dt>${t(`settings.${name}`)}</dt><dd>${number(gallery[name])}</dd></div>`,
        )}
      </dl>
      ${gallery.skipped > 0 && html`<${Skipped} />`}
      ${may("write") &&
      html`<button class="secondary" aria-busy=${busy} disabled=${busy} onClick=${sortAnew}>${t("settings.sort")}</button>`}
    <//>
  `;
}

function Skipped() {
  const [skipped, setSkipped] = useState(null);
  const load = ({ target }) => {
    if (target.open) get("/skipped", { limit: MOST_SKIPPED }).then(setSkipped, toastError);
  };
  const more = skipped ? skipped.total - skipped.files.length : 0;
  return html`
    <details onToggle=${load}>
      <summary>${t("settings.show_skipped")}</summary>
      <ul class="rows">
        ${skipped?.files.map(
          ({ path, reason }) => html`<li translate=${false}><span>${path}</span><small>${reason}</small></li>`,
        )}
        ${more > 0 && html`<li>${t("settings.skipped_more", { count: more })}</li>`}
      </ul>
    </details>
  `;
}

function Models({ models }) {
  return html`
    <${Part} name="models" lead=${t("settings.models_lead")}>
      <dl class="pairs">
        ${["detector", "embedder"].map((role) => {
          const model = models[role];
          return html`
            <dt>${t(`settings.${role}`)}</dt>
            <dd>
              <span translate=${false}>${model.name}</span>
              <small>
                ${t("settings.licence")}: <${Licence} model=${model} />
                ${model.research_only && html` · ${t("settings.research_only")}`}
              </small>
            </dd>
          `;
        })}
        <dt>${t("settings.measured_on")}</dt>
        <dd translate=${false}>${models.measured_on}</dd>
      </dl>
    <//>
  `;
}

/** A pack of the user's own may say anything here: only addresses of the web become links. */
const Licence = ({ model }) =>
  /^https?:\/\//.test(model.licence_url)
    ? html`<a href=${model.licence_url} target="_blank" rel="noreferrer" translate=${false}>${model.licence}</a>`
    : html`<span translate=${false}>${model.licence}</span>`;

function Access({ tokens }) {
  const { name, scope, token } = current();
  return html`
    <${Part} name="access">
      <p>${token ? t("settings.signed_in", { name, scope: t(`settings.scope_${scope}`) }) : t("settings.open")}</p>
      ${token && html`<button class="secondary" onClick=${() => signOut().catch(toastError)}>${t("settings.sign_out")}</button>`}
      ${may("admin") &&
      (tokens.length
        ? html`
            <div class="wide-table">
              <table>
                <caption>${t("settings.tokens")}</caption>
                <thead>
                  <tr>${["name", "scope", "since"].map((column) => html`<th scope="col">${t(`settings.token_${column}`)}</th>`)}</tr>
                </thead>
                <tbody>
                  ${tokens.map(
                    (one) => html`<tr>
                      <td translate=${false}>${one.name}</td>
                      <td>${t(`settings.scope_${one.scope}`)}</td>
                      <td>${date(one.created_at, { dateStyle: "medium" })}</td>
                    </tr>`,
                  )}
                </tbody>
              </table>
            </div>
          `
        : html`<p class="lead">${t("settings.no_tokens")}</p>`)}
    <//>
  `;
}

function Carry({ onChange }) {
  const [busy, setBusy] = useState(false);
  const chooser = useRef(null);
  const importFile = async ({ target }) => {
    const [file] = target.files;
    target.value = "";
    const sure = await confirm({
      title: t("settings.import_title"),
      text: t("settings.import_text"),
      action: t("settings.import"),
      danger: false,
    });
    if (!sure) return;
    const form = new FormData();
    form.append("file", file, "gallery.visavis");
    setBusy(true);
    try {
      toast(t("settings.imported", await api("/import", { method: "POST", form })));
      tellChange();
      onChange();
    } catch (error) {
      toastError(error);
    } finally {
      setBusy(false);
    }
  };
  return html`
    <${Part} name="carry" lead=${t("settings.carry_lead")}>
      <div class="actions">
        <a role="button" class="secondary" href=${address("/export")} download>
          <${Icon} name="download" />${t("settings.export")}
        </a>
        <button class="secondary" aria-busy=${busy} disabled=${busy} onClick=${() => chooser.current.click()}>
          <${Icon} name="upload" />${t("settings.import")}
        </button>
        <input ref=${chooser} type="file" accept=".visavis,.zip" hidden onChange=${importFile} />
      </div>
    <//>
  `;
}

const About = ({ gallery, server }) => html`
  <${Part} name="about">
    <dl class="pairs">
      <dt>${t("settings.version")}</dt>
      <dd translate=${false}>visavis ${gallery.version}</dd>
    </dl>
    <p>${t("settings.limits", { bytes: bytes(server.upload_bytes), pixels: server.upload_pixels / 1e6 })}</p>
    <p>${t("settings.caution")}</p>
  <//>
`;
