// The one place that names the vendored file.
export * from "./vendor/htm-preact-3.1.1.mjs";
