// The server's API: requests, their errors, events and uploads. Nothing else in these pages talks to the server.

const BASE = "/api/v1";
const RETRIES = 4; // of a question that came too fast

/** What the server, or the way to it, says went wrong. `type` is a name of the server's, or "NetworkError". */
export class ApiError extends Error {
  constructor(status, type, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.type = type;
  }
}

/** The address of a path of the API; a query's undefined and null values are left out. */
export function address(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return BASE + path + (kept.length ? `?${new URLSearchParams(kept)}` : "");
}

/** The API's answer as an object. Throws an ApiError, or an AbortError once `signal` says so. */
export async function api(path, options) {
  const { status, text } = await ask(path, options);
  return answer(status, text);
}

/** As `api`, for changes of people: {body, change}; `undo(change)` takes it back. */
export async function change(path, options) {
  const { status, text, headers } = await ask(path, { method: "POST", ...options });
  return { body: answer(status, text), change: headers.get("Visavis-Change") };
}

export const undo = (number) => api(`/changes/${number}/undo`, { method: "POST" });

async function ask(path, { method = "GET", query, json, form, headers, signal } = {}) {
  const request = { method, headers: { ...headers }, body: form, signal };
  if (json !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(json);
  }
  for (let attempt = 0; ; attempt++) {
    const response = await reach(address(path, query), request);
    if (response.status === 429 && method === "GET" && attempt < RETRIES) {
      await later(1000 * Number(response.headers.get("Retry-After") ?? 1), signal);
      continue;
    }
    return { status: response.status, text: await response.text(), headers: response.headers };
  }
}

export const get = (path, query, signal) => api(path, { query, signal });

/** POST with progress: `onProgress(sentBytes, allBytes)`. Fetch cannot tell what it has sent. */
export function upload(path, form, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    request.upload.onprogress = (event) => onProgress?.(event.loaded, event.total);
    request.onload = () => {
      try {
        resolve(answer(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    if (signal?.aborted) return reject(new DOMException("cancelled", "AbortError"));
    request.send(form);
  });
}

/**
 * Listen to server-sent events: `handlers` by event name, each called with the event's object.
 * Returns what ends it; call it when the last event has come, or the browser asks again.
 */
export function watch(path, handlers, { query, onError } = {}) {
  const source = new EventSource(address(path, query));
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) onError?.(unreachable());
  };
  return () => source.close();
}

/** `onSignIn` is called whenever the server asks for a token. */
export function listenForSignIn(onSignIn) {
  addEventListener("visavis-sign-in", onSignIn);
  return () => removeEventListener("visavis-sign-in", onSignIn);
}

async function reach(url, request) {
  try {
    return await fetch(url, request);
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
}

function answer(status, text) {
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(status, "NetworkError", text.slice(0, 200));
  }
  if (status < 400) return body;
  if (status === 401) dispatchEvent(new Event("visavis-sign-in"));
  throw new ApiError(status, body?.error?.type ?? "NetworkError", body?.error?.message ?? "");
}

const unreachable = () => new ApiError(0, "NetworkError", "");

function later(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
