import { Head } from "../components/head.js";
import { t } from "../i18n.js";
import { html } from "../preact.js";

export default () => html`<${Head} title=${t("review.title")} />`;
