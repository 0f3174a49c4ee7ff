// Who the server takes us for, asked once and again after signing in.

import { api, get } from "./api.js";

const SCOPES = ["read", "write", "admin"];
let session = null;

/** {name, scope, token}; `token` is false where this computer is served without. */
export const current = () => session;

export async function loadSession() {
  session = await get("/session");
}

export async function signIn(token) {
  session = await api("/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
}

export async function signOut() {
  await api("/session", { method: "DELETE" });
  location.assign("/");
}

/** Whether we may do what needs a scope; pages leave out what we may not. */
export const may = (scope) => session !== null && SCOPES.indexOf(session.scope) >= SCOPES.indexOf(scope);
