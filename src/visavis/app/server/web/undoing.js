// Changes of people that tell what was done and offer to take it back.

import { change, undo } from "./api.js";
import { toast, toastError } from "./components/toasts.js";
import { t } from "./i18n.js";

/** Do a change; `done` says what it was, `onUndone` is called if it is taken back. The answer, or null if it failed. */
export async function changed(path, options, { done, detail, onUndone }) {
  try {
    const answer = await change(path, options);
    const takeBack = async () => {
      try {
        await undo(answer.change);
        toast(t("people.undone"));
        onUndone();
      } catch (error) {
        toastError(error);
      }
    };
    toast(done, { detail, action: { text: t("people.undo"), act: takeBack } });
    return answer.body;
  } catch (error) {
    toastError(error);
    return null;
  }
}
