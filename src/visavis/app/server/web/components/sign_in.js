// Asks for a token, once: the server puts it into a cookie that no script can read.

import { t } from "../i18n.js";
import { html, useState } from "../preact.js";
import { signIn } from "../session.js";
import { errorTitle } from "./empty.js";
import { Head } from "./head.js";

export function SignIn({ onDone }) {
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    const token = new FormData(event.target).get("token").trim();
    try {
      await signIn(token);
    } catch (failure) {
      setError(failure);
      return;
    }
    onDone();
  };
  return html`
    <section class="sign-in">
      <${Head} title=${t("sign_in.title")} lead=${t("sign_in.lead")} />
      <form onSubmit=${submit}>
        <label>
          ${t("sign_in.token")}
          <input name="token" type="password" autocomplete="off" required autofocus aria-invalid=${error ? "true" : null}
            aria-describedby="token-help" pattern="[!-~]+" />
        </label>
        <p id="token-help" class="lead" role=${error ? "alert" : null}>
          ${error ? (error.status === 401 ? t("sign_in.wrong") : errorTitle(error)) : t("sign_in.help")}
        </p>
        <button>${t("sign_in.action")}</button>
      </form>
    </section>
  `;
}
