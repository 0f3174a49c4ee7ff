// Unknown people one after another, one key each: who is it?

import { change, get, undo } from "../api.js";
import { Empty, Failed, Skeleton } from "../components/empty.js";
import { Face, Name, strangers, Sure, sureness } from "../components/face.js";
import { Head } from "../components/head.js";
import { toastError } from "../components/toasts.js";
import { percent, t } from "../i18n.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../preact.js";
import { may } from "../session.js";

const PAGE = 12;
const FEW = 4; // left before the next page is asked for
const PLAUSIBLE = 0.1; // the false-match rate up to which somebody is suggested
const SIZE = matchMedia("(max-width: 800px)").matches // of faces; on a phone everything to decide by is to be seen at once
  ? { large: 112, small: 64, guess: 88 }
  : { large: 184, small: 88, guess: 132 };
const PLACE = "visavis.review"; // where one was, for this tab

export default function Review() {
  const [queue, setQueue] = useState(null); // unknown people; the first is shown
  const [total, setTotal] = useState(0); // of those nobody has named
  const [after, setAfter] = useState(sessionStorage.getItem(PLACE)); // cursor of the one before the first
  const [done, setDone] = useState([]); // decisions, for undo: {change, queue, after, total}
  const [loading, setLoading] = useState(true);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const [version, setVersion] = useState(0); // counts the times the queue is asked for anew
  const asking = useRef(null); // an AbortController while it is
  const outdated = useRef(false); // whether somebody was named since, and so may be suggested
  const field = useRef(null);

  useEffect(() => {
    after ? sessionStorage.setItem(PLACE, after) : sessionStorage.removeItem(PLACE);
  }, [after]);
  useEffect(() => {
    asking.current = new AbortController();
    setLoading(true);
    get("/review", { after, limit: PAGE }, asking.current.signal).then(
      (page) => {
        outdated.current = false;
        setQueue(page.unknown.map(plausible));
        setTotal(page.total);
        setError(null);
        setLoading(false);
      },
      (failure) => failure.name !== "AbortError" && setError(failure),
    );
    return () => asking.current.abort();
  }, [version]);

  const current = queue?.[0];
  const advance = (number) => {
    setDone((before) => [...before, { change: number, queue, after, total }]);
    setAfter(cursor(current));
    setQueue(queue.slice(1));
    if (number) setTotal((count) => count - 1);
    outdated.current ||= number !== null;
    if (outdated.current || queue.length <= FEW) setVersion((count) => count + 1);
  };
  const decide = async (act) => {
    if (busy) return;
    asking.current.abort(); // what it would bring is older than what is done now
    setLoading(false);
    setBusy(true);
    try {
      await act();
    } catch (failure) {
      toastError(failure);
      setVersion((count) => count + 1);
    }
    setBusy(false);
  };
  const same = (person) =>
    decide(async () => {
      const answer = await change(`/people/${person.id}/merge`, { json: { others: [current.person.id] } });
      advance(answer.change);
    });
  const other = () =>
    decide(async () => {
      const [{ person }, ...rest] = current.likely;
      const answer = await change(`/people/${current.person.id}/separate`, { json: { others: [person.id] } });
      setDone((before) => [...before, { change: answer.change, queue, after, total }]);
      setQueue([{ ...current, likely: rest }, ...queue.slice(1)]);
    });
  const name = (text) =>
    decide(async () => {
      const known = (await get("/people", { name: text, limit: 1000 })).people.find((person) => person.name === text);
      const answer = known
        ? await change(`/people/${known.id}/merge`, { json: { others: [current.person.id] } })
        : await change(`/people/${current.person.id}`, { method: "PATCH", json: { name: text } });
      advance(answer.change);
    });
  const skip = () => decide(async () => advance(null));
  const takeBack = () =>
    decide(async () => {
      const last = done.at(-1);
      if (!last) return;
      if (last.change) await undo(last.change);
      setDone(done.slice(0, -1));
      setQueue(last.queue);
      setAfter(last.after);
      setTotal(last.total);
    });
  const startOver = () => {
    setAfter(null);
    setDone([]);
    setQueue(null);
    sessionStorage.removeItem(PLACE);
    setVersion((count) => count + 1);
  };

  useLayoutEffect(() => { // at once: no key is to be lost between a card and its listener
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      if (event.target.matches("input, textarea, select")) return;
      const likely = current?.likely ?? [];
      const chosen = likely[Number(event.key) - 1];
      const act = {
        y: likely.length ? () => same(likely[0].person) : null,
        n: likely.length ? other : null,
        s: current ? skip : null,
        u: done.length ? takeBack : null,
        t: current ? () => field.current?.focus() : null,
      }[event.key.toLowerCase()] ?? (chosen ? () => same(chosen.person) : null);
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });

  const named = done.filter((one, index) => (done[index + 1]?.total ?? total) < one.total).length;
  const head = html`<${Head} title=${t("review.title")} lead=${total ? t("review.left", { count: total }) : null}>
    ${done.length > 0 &&
    html`<button class="secondary" disabled=${busy} onClick=${takeBack}>${t("review.undo")} <kbd>U</kbd></button>`}
  <//>`;
  if (!may("write")) return html`${head}<${Empty} icon="review" title=${t("review.may_not")} />`;
  if (error) return html`${head}<${Failed} error=${error} onRetry=${() => setVersion((count) => count + 1)} />`;
  if (!queue || (!current && loading)) return html`${head}<${Skeleton} count=${8} />`;
  if (!current) return html`${head}<${Finished} left=${total} onAgain=${startOver} />`;
  return html`
    ${head}
    <progress class="review-progress" value=${named} max=${named + total} aria-label=${t("review.progress")}></progress>
    <article class="review-card" key=${current.person.id} aria-busy=${busy}>
      <section aria-labelledby="unknown">
        <h2 id="unknown">${t("review.who")} <small>${t("people.faces", { count: current.person.faces })}</small></h2>
        <div class="unknown">
          ${current.faces.map(
            (face, index) => html`<${Face} key=${face} id=${face} size=${index ? SIZE.small : SIZE.large}
              alt=${t("review.face", { place: index + 1 })} />`,
          )}
        </div>
        <p><a href=${`/people/${current.person.id}`}>${t("review.all")}</a></p>
      </section>
      <section aria-labelledby="guess" aria-live="polite">
        <h2 id="guess">${t(current.likely.length ? "review.is_it" : "review.nobody")}</h2>
        ${current.likely.length > 0 &&
        html`<${Guess} likely=${current.likely[0]} busy=${busy} onSame=${same} onOther=${other} />`}
        ${current.likely.length > 1 && html`<${Others} likely=${current.likely} busy=${busy} onSame=${same} />`}
        <${NameIt} field=${field} busy=${busy} onName=${name} />
        <button class="secondary" disabled=${busy} onClick=${skip}>${t("review.skip")} <kbd>S</kbd></button>
      </section>
    </article>
  `;
}

const cursor = ({ person }) => `${person.faces}-${person.id}`;

const plausible = (unknown) => ({
  ...unknown,
  likely: unknown.likely.filter((one) => one.false_match_rate <= PLAUSIBLE),
});

const Guess = ({ likely: { person, probability, false_match_rate: rate }, busy, onSame, onOther }) => html`
  <div class="guess">
    <${Face} key=${person.id} id=${person.best_face} size=${SIZE.guess} />
    <div>
      <strong class="name"><${Name} person=${person} /></strong>
      <p class="sure ${sureness(probability)}"><b>${t(`match.${sureness(probability)}`)}</b></p>
      <p class="lead">
        ${t("match.probability", { probability: percent(probability) })}<br />
        ${t("match.rate", { strangers: strangers(rate) })}
      </p>
    </div>
  </div>
  <div class="actions decide">
    <button disabled=${busy} onClick=${() => onSame(person)}>${t("review.yes")} <kbd>Y</kbd></button>
    <button class="secondary" disabled=${busy} onClick=${onOther}>${t("review.no")} <kbd>N</kbd></button>
  </div>
`;

const Others = ({ likely, busy, onSame }) => html`
  <h3>${t("review.or")}</h3>
  <ol class="others" start="2">
    ${likely.slice(1).map(
      ({ person, probability, false_match_rate: rate }, index) => html`<li key=${person.id}>
        <button class="plain" disabled=${busy} onClick=${() => onSame(person)}>
          <kbd>${index + 2}</kbd><${Face} id=${person.best_face} size=${44} />
          <span><${Name} person=${person} /><${Sure} probability=${probability} rate=${rate} /></span>
        </button>
      </li>`,
    )}
  </ol>
`;

function NameIt({ field, busy, onName }) {
  const [names, setNames] = useState([]);
  const suggest = async (event) => {
    const text = event.target.value.trim();
    const found = text ? await get("/people", { name: text, limit: 8 }).catch(() => ({ people: [] })) : { people: [] };
    setNames(found.people.map((person) => person.name));
  };
  const submit = (event) => {
    event.preventDefault();
    const text = field.current.value.trim();
    if (!text) return;
    field.current.blur(); // the keys are the cards' again
    onName(text);
  };
  return html`
    <form class="name-it" onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && field.current.blur()}>
      <label>
        <span>${t("review.name")} <kbd>T</kbd></span>
        <input ref=${field} list="names" maxlength="200" autocomplete="off" spellcheck="false" onInput=${suggest} />
      </label>
      <datalist id="names">${names.map((one) => html`<option key=${one} value=${one} />`)}</datalist>
      <button class="secondary" disabled=${busy}>${t("review.name_it")}</button>
    </form>
  `;
}

const Finished = ({ left, onAgain }) =>
  left
    ? html`<${Empty} icon="review" title=${t("review.end")} text=${t("review.end_text", { count: left })}>
        <button onClick=${onAgain}>${t("review.again")}</button>
      <//>`
    : html`<${Empty} icon="done" title=${t("review.done")} text=${t("review.done_text")}>
        <a role="button" href="/people">${t("person.back")}</a>
      <//>`;
