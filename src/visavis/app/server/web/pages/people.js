// Everybody, those with a name and those without apart; several can be made one.

import { get } from "../api.js";
import { confirm } from "../components/dialog.js";
import { Empty, Failed, Skeleton } from "../components/empty.js";
import { Face, Name } from "../components/face.js";
import { Head } from "../components/head.js";
import { Icon } from "../components/icons.js";
import { usePages, Windowed } from "../components/windowed.js";
import { number, t } from "../i18n.js";
import { html, useEffect, useState } from "../preact.js";
import { navigate } from "../router.js";
import { may } from "../session.js";
import { changed } from "../undoing.js";

const TYPING_MS = 200;

export default function People({ query }) {
  const [about, setAbout] = useState(null);
  const [version, setVersion] = useState(0); // counts changes, after which everything is asked anew
  const [selected, setSelected] = useState(null); // Map of people by id; null: not selecting
  const named = query.get("show") !== "nameless";
  const name = named ? (query.get("name") ?? "") : "";
  const list = usePages(
    async (offset, limit) => {
      const { people, total } = await get("/people", { offset, limit, named, name: name || null });
      return { items: people, total };
    },
    [named, name, version],
  );
  useEffect(() => {
    get("/gallery").then(setAbout, () => {}); // only for the counts; the list tells of errors
  }, [version]);
  const again = () => setVersion((count) => count + 1);

  const toggle = (person) => {
    const next = new Map(selected);
    if (!next.delete(person.id)) next.set(person.id, person);
    setSelected(next);
  };
  const merge = async () => {
    if (await mergeSelected([...selected.values()], again)) {
      setSelected(null);
      again();
    }
  };
  const mayMerge = may("write") && (list.total > 1 || selected);

  return html`
    <${Head} title=${t("people.title")}
      lead=${about && t("people.counts", { named: about.named, nameless: about.people - about.named })}>
      ${named && (list.total > 0 || name) && html`<${Find} name=${name} />`}
      ${mayMerge &&
      html`<button class="secondary" aria-pressed=${selected !== null}
        onClick=${() => setSelected(selected ? null : new Map())}>
        ${t(selected ? "shell.cancel" : "people.select")}
      </button>`}
    <//>
    <${Kinds} named=${named} about=${about} />
    ${list.error
      ? html`<${Failed} error=${list.error} onRetry=${list.retry} />`
      : list.total === null
        ? html`<${Skeleton} count=${18} />`
        : list.total === 0
          ? html`<${Nobody} named=${named} name=${name} nameless=${about ? about.people - about.named : 0} />`
          : html`<${Windowed} key=${`${named} ${name}`} total=${list.total} wide=${150} high=${206} onShow=${list.want}
              label=${t(named ? "people.named" : "people.without")}
              render=${(index) => html`<${Card} person=${list.at(index)} selected=${selected} onToggle=${toggle} />`} />`}
    ${selected?.size > 0 &&
    html`<div class="selection" role="region" aria-label=${t("people.selection")}>
      <span>${t("people.selected", { count: selected.size })}</span>
      <button disabled=${selected.size < 2} onClick=${merge}>${t("people.merge")}</button>
      <button class="secondary" onClick=${() => setSelected(null)}>${t("shell.cancel")}</button>
    </div>`}
  `;
}

/** Make one of several people: the one with a name and most faces stays. Whether it was done. */
async function mergeSelected(people, onUndone) {
  const [into, ...others] = people.sort((a, b) => (a.name === null) - (b.name === null) || b.faces - a.faces);
  const lost = others.filter((one) => one.name !== null);
  const text = lost.length
    ? t("people.merge_names", { name: into.name, lost: lost.map((one) => one.name).join(", ") })
    : into.name === null ? t("people.merge_nameless") : t("people.merge_into", { name: into.name });
  const title = t("people.merge_title", { count: people.length });
  if (!(await confirm({ title, text, action: t("people.merge"), danger: false }))) return false;
  const json = { others: others.map((one) => one.id) };
  return changed(`/people/${into.id}/merge`, { json }, { done: t("people.merged"), detail: into.name, onUndone });
}

function Card({ person, selected, onToggle }) {
  if (!person) return html`<div class="card waiting"></div>`;
  const faces = t("people.faces", { count: person.faces });
  const content = html`
    <${Face} id=${person.best_face} size=${112} />
    <strong><${Name} person=${person} /></strong>
    <small>${faces}</small>
  `;
  if (!selected) return html`<a class="card" href=${`/people/${person.id}`}>${content}</a>`;
  return html`
    <label class="card" data-selected=${selected.has(person.id)}>
      <input type="checkbox" checked=${selected.has(person.id)} onChange=${() => onToggle(person)} />${content}
    </label>
  `;
}

function Find({ name }) {
  const [text, setText] = useState(name);
  useEffect(() => {
    if (text === name) return undefined;
    const timer = setTimeout(() => {
      navigate(text ? `/people?${new URLSearchParams({ name: text })}` : "/people", { replace: true });
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<input class="find" type="search" value=${text} aria-label=${t("people.find")} placeholder=${t("people.find")}
    onInput=${(event) => setText(event.target.value)} />`;
}

const Kinds = ({ named, about }) => html`
  <nav class="kinds" aria-label=${t("people.kinds")}>
    <a href="/people" aria-current=${named ? "page" : null}>
      ${t("people.named")} ${about && html`<small>${number(about.named)}</small>`}
    </a>
    <a href="/people?show=nameless" aria-current=${named ? null : "page"}>
      ${t("people.without")} ${about && html`<small>${number(about.people - about.named)}</small>`}
    </a>
    ${about?.people > about?.named && may("write") &&
    html`<a class="review" href="/review"><${Icon} name="review" />${t("people.review")}</a>`}
  </nav>
`;

function Nobody({ named, name, nameless }) {
  if (name) return html`<${Empty} icon="search" title=${t("people.none_found")} text=${t("people.none_found_text")} />`;
  if (!named) return html`<${Empty} icon="done" title=${t("people.all_named")} />`;
  return html`
    <${Empty} icon="people" title=${t("people.empty")} text=${t(nameless ? "people.empty_nameless" : "people.empty_text")}>
      ${nameless > 0
        ? html`<a role="button" href="/review">${t("people.review")}</a>`
        : html`<a role="button" href="/">${t("missing.back")}</a>`}
    <//>
  `;
}
