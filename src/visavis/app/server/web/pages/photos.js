// All photos by month. However many there are, only those near the window are in the page.

import { get } from "../api.js";
import { Empty, Failed, Skeleton } from "../components/empty.js";
import { Grid } from "../components/grid.js";
import { Head } from "../components/head.js";
import { Icon } from "../components/icons.js";
import { AddPhotos } from "../components/uploads.js";
import { Viewer } from "../components/viewer.js";
import { date, t } from "../i18n.js";
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../preact.js";
import { navigate } from "../router.js";
import { may } from "../session.js";
import { onChange } from "../uploading.js";

export default function Photos({ query }) {
  const [months, setMonths] = useState(null);
  const [error, setError] = useState(null);
  const load = useCallback(() => {
    get("/timeline").then(setMonths, setError);
  }, []);
  useEffect(load, []);
  useEffect(() => onChange(load), []);
  const ids = useMemo(() => (months ?? []).flatMap((month) => month.photos), [months]);
  const grid = useRef(null);
  const opened = Number(query.get("photo")) || null;
  const openedBefore = useRef(null);
  useEffect(() => {
    if (!opened && openedBefore.current) grid.current?.focusPhoto(openedBefore.current);
    openedBefore.current = opened;
  }, [opened]);

  if (error) return html`<${Head} title=${t("photos.title")} /><${Failed} error=${error} onRetry=${() => (setError(null), load())} />`;
  if (!months) return html`<${Head} title=${t("photos.title")} /><${Skeleton} count=${24} />`;
  return html`
    <${Head} title=${t("photos.title")} lead=${ids.length ? t("photos.count", { count: ids.length }) : null}>
      ${months.length > 1 && html`<${Jump} months=${months} onJump=${(index) => grid.current.showMonth(index)} />`}
      ${ids.length > 0 && may("write") && html`<${AddPhotos} />`}
    <//>
    ${ids.length
      ? html`<${Grid} months=${months} ids=${ids} handle=${grid} monthName=${monthName} />`
      : html`<${NoPhotos} />`}
    ${opened &&
    html`<${Viewer} id=${opened} ids=${ids} onShow=${(id) => navigate(`/?photo=${id}`, { replace: true })}
      onClose=${() => navigate("/", { replace: true })} />`}
  `;
}

const NoPhotos = () => html`
  <${Empty} icon="photos" title=${t("photos.empty")} text=${t("photos.empty_text")}>
    ${may("write") && html`<${AddPhotos} />`}
    ${may("admin") && html`<a role="button" class="secondary" href="/settings"><${Icon} name="folder" />${t("photos.index")}</a>`}
  <//>
`;

const Jump = ({ months, onJump }) => html`
  <select class="jump" aria-label=${t("photos.jump")} onChange=${(event) => onJump(Number(event.target.value))}>
    ${months.map((month, index) => html`<option value=${index}>${monthName(month.month)}</option>`)}
  </select>
`;

const monthName = (month) =>
  month ? date(`${month}-01T00:00`, { year: "numeric", month: "long" }) : t("photos.undated");
