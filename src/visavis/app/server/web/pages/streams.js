// Cameras and videos that are watched: who is there now, and who was seen when.

import { address, api, get, watch } from "../api.js";
import { Empty, Failed, Skeleton } from "../components/empty.js";
import { Name, Sure } from "../components/face.js";
import { Head } from "../components/head.js";
import { Icon } from "../components/icons.js";
import { toastError } from "../components/toasts.js";
import { date, number, t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";
import { may } from "../session.js";

const SHOWN = 100; // visits
const LOOK_MS = 1000; // between two pictures of a stream
const isOver = (stream) => ["ended", "stopped", "failed"].includes(stream.state);

export default function Streams() {
  const [facts, setFacts] = useState(null); // {sources, streams, roots}
  const [visits, setVisits] = useState([]);
  const [last, setLast] = useState(null); // {event, visit}
  const [error, setError] = useState(null);

  const load = () => {
    setError(null);
    Promise.all([get("/streams"), get("/streams/seen", { limit: SHOWN }), get("/server")]).then(
      ([{ sources, streams }, seen, server]) => {
        setFacts({ sources, streams, roots: server.roots });
        setVisits(seen);
      },
      setError,
    );
  };
  const happened = (event) => (visit) => {
    setLast({ event, visit });
    setVisits((all) => {
      const there = all.some((one) => one.id === visit.id);
      return there ? all.map((one) => (one.id === visit.id ? visit : one)) : [visit, ...all].slice(0, SHOWN);
    });
  };
  useEffect(() => {
    load();
    return watch(
      "/streams/events",
      {
        appeared: happened("appeared"),
        identified: happened("identified"),
        left: happened("left"),
        stream: load,
      },
      { onError: setError },
    );
  }, []);

  const names = new Map(facts?.streams.map((stream) => [stream.id, stream.name]));
  const running = facts?.streams.filter((stream) => !isOver(stream)) ?? [];
  const over = facts?.streams.filter(isOver) ?? [];
  return html`
    <${Head} title=${t("streams.title")} lead=${t("streams.lead")} />
    ${error && html`<${Failed} error=${error} onRetry=${load} />`}
    ${!facts && !error && html`<${Skeleton} count=${4} class="line" />`}
    ${facts &&
    html`
      ${may("admin") && html`<${Start} facts=${facts} onStart=${load} />`}
      <div class="live">
        ${running.map(
          (stream) => html`<${Live} key=${stream.id} stream=${stream} visits=${visits.filter((one) => one.stream === stream.id && one.present)} onStop=${load} />`,
        )}
      </div>
      <p class="sr-only" role="status">${last && t(`streams.said_${last.event}`, { name: said(last.visit) })}</p>
      <${Seen} visits=${visits} names=${names} idle=${!running.length && !may("admin")} />
      ${over.length > 0 && html`<${Over} streams=${over} />`}
    `}
  `;
}

const said = (visit) => visit.name ?? t("streams.unknown", { track: visit.track });

function Start({ facts, onStart }) {
  const start = (what) => async (event) => {
    event.preventDefault();
    const value = new FormData(event.target).get(what);
    try {
      await api("/streams", { method: "POST", json: { [what]: value } });
    } catch (error) {
      toastError(error);
    }
    onStart();
  };
  const watched = new Set(facts.streams.filter((stream) => !isOver(stream)).map((stream) => stream.name));
  const free = facts.sources.filter((source) => !watched.has(source.name));
  return html`
    <section class="part starts" aria-labelledby="part-start">
      <h2 id="part-start">${t("streams.watch")}</h2>
      ${facts.sources.length === 0 && facts.roots.length === 0 && html`<p>${t("streams.nothing_allowed")}</p>`}
      ${free.length > 0 &&
      html`
        <form onSubmit=${start("source")}>
          <label>
            ${t("streams.source")}
            <select name="source">
              ${free.map((source) => html`<option value=${source.name} translate=${false}>${source.name}</option>`)}
            </select>
          </label>
          <button><${Icon} name="streams" />${t("streams.start")}</button>
        </form>
      `}
      ${facts.roots.length > 0 &&
      html`
        <form onSubmit=${start("file")}>
          <label>
            ${t("streams.file")}
            <input name="file" required spellcheck=${false} autocomplete="off" defaultValue=${`${facts.roots[0]}/`} />
          </label>
          <button class="secondary"><${Icon} name="streams" />${t("streams.start_file")}</button>
        </form>
      `}
    </section>
  `;
}

/** A stream as it is now: its picture, and who is in it. */
function Live({ stream, visits, onStop }) {
  const [now, setNow] = useState({ ...stream, shown: null });
  useEffect(() => {
    let wanted = true;
    const look = async () => {
      if (document.hidden) return;
      try {
        const state = await get(`/streams/${stream.id}`);
        // A picture that is not there is an error in the browser's log, so it is asked for once there was a frame.
        if (wanted) setNow({ ...state, shown: state.frames && !isOver(state) ? Date.now() : null });
      } catch (error) {
        if (error.status !== 404) return; // the next look may go well
        onStop();
      }
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => {
      wanted = false;
      clearInterval(timer);
    };
  }, [stream.id, stream.state]);
  const stop = async () => {
    await api(`/streams/${stream.id}`, { method: "DELETE" }).catch(toastError);
    onStop();
  };
  return html`
    <article class="stream" aria-label=${stream.name}>
      <div class="screen">
        ${now.shown && now.state === "running"
          ? html`<img src=${address(`/streams/${stream.id}/frame`, { at: now.shown })} alt=${t("streams.picture", { name: stream.name })} />`
          : html`<span><${Icon} name="streams" />${t(`streams.state_${now.state}`)}</span>`}
      </div>
      <header>
        <h2 translate=${false}>${stream.name}</h2>
        <small>${t(`streams.state_${now.state}`)}, ${t("streams.frames", { count: now.frames, time: clock(now.time_s) })}</small>
        ${may("admin") && html`<button class="secondary" onClick=${stop}>${t("streams.stop")}</button>`}
      </header>
      <ul class="there" aria-label=${t("streams.there")}>
        ${visits.map((visit) => html`<li key=${visit.id}><b class="visit-number">${visit.track}</b> <${Who} visit=${visit} /></li>`)}
        ${visits.length === 0 && html`<li><small>${t("streams.nobody_there")}</small></li>`}
      </ul>
    </article>
  `;
}

function Seen({ visits, names, idle }) {
  if (visits.length === 0) {
    return html`<${Empty} icon="streams" title=${t("streams.empty")} text=${t(idle ? "streams.empty_idle" : "streams.empty_text")} />`;
  }
  return html`
    <section aria-labelledby="seen">
      <h2 id="seen">${t("streams.seen")}</h2>
      <ul class="visits">
        ${visits.map(
          (visit) => html`
            <li key=${visit.id}>
              ${visit.has_picture
                ? html`<img class="face" src=${address(`/streams/seen/${visit.id}/picture`)} alt="" width="56" height="56" />`
                : html`<span class="face none"><${Icon} name="people" /></span>`}
              <div>
                <${Who} visit=${visit} />
                <small>
                  <span translate=${false}>${names.get(visit.stream) ?? ""}</span> · ${when(visit)}
                  ${visit.present && html` · <b>${t("streams.now")}</b>`}
                </small>
              </div>
              ${visit.person !== null && html`<${Sure} probability=${visit.probability} rate=${visit.false_match_rate} />`}
            </li>
          `,
        )}
      </ul>
    </section>
  `;
}

const Who = ({ visit }) =>
  visit.person === null
    ? html`<span class="stranger">${t("streams.unknown", { track: visit.track })}</span>`
    : html`<a href=${`/people/${visit.person}`}><${Name} person=${visit} /></a>`;

function Over({ streams }) {
  return html`
    <details class="over">
      <summary>${t("streams.over", { count: streams.length })}</summary>
      <ul class="rows">
        ${streams.map(
          (stream) => html`
            <li key=${stream.id}>
              <span translate=${false}>${stream.name}</span>
              <small>${t(`streams.state_${stream.state}`)}, ${t("streams.frames", { count: stream.frames, time: clock(stream.time_s) })}</small>
              ${stream.error && html`<small translate=${false}>${stream.error}</small>`}
            </li>
          `,
        )}
      </ul>
    </details>
  `;
}

/** From when to when: by the clock for a camera, else by the place in the video. */
function when(visit) {
  if (visit.began_at === null) return `${clock(visit.from_s)} – ${clock(visit.until_s)}`;
  const began = date(visit.began_at, { dateStyle: "medium", timeStyle: "medium" });
  return visit.present ? began : `${began} – ${date(visit.last_at, { timeStyle: "medium" })}`;
}

/** Seconds as minutes and seconds. */
const clock = (seconds) => `${number(Math.floor(seconds / 60))}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
