import { Empty } from "../components/empty.js";
import { Head } from "../components/head.js";
import { t } from "../i18n.js";
import { html } from "../preact.js";

export default () => html`
  <${Head} title=${t("missing.title")} />
  <${Empty} icon="search" title=${t("missing.head")} text=${t("missing.text")}>
    <a role="button" href="/">${t("missing.back")}</a>
  <//>
`;
