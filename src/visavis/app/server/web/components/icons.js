// Icons, drawn on a grid of 24 by strokes. They are decoration: whatever they stand for is also said in words.

import { html } from "../preact.js";

const PATHS = {
  photos: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5c2 .8 3.2 2.7 3.5 5.5",
  review: "M4 12l5 5L20 6M4 5h8M4 20h16",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4.5 4.5",
  verify: "M3 6h7v12H3zM14 6h7v12h-7zM10 12h4",
  streams: "M3 7h12v10H3zM15 11l6-3v8l-6-3",
  settings: "M4 7h9M17 7h3M15 5v4M4 12h3M11 12h9M9 10v4M4 17h9M17 17h3M15 15v4",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  add: "M12 5v14M5 12h14",
  upload: "M12 16V4M7 9l5-5 5 5M4 16v4h16v-4",
  folder: "M3 6h6l2 2h10v11H3z",
  close: "M6 6l12 12M18 6L6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 8h.01",
  done: "M5 13l4.5 4.5L19 7",
  warning: "M12 4L2.5 20h19zM12 10v4M12 17h.01",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 16.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
  edit: "M5 19l1-4L16.5 4.5l3 3L9 18z",
  download: "M12 4v12M7 11l5 5 5-5M4 20h16",
  faces: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4M9 10h.01M15 10h.01M9 14.5c1.8 1.7 4.2 1.7 6 0",
};

export const Icon = ({ name }) => html`
  <svg class="icon" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" focusable="false">
    <path d=${PATHS[name]} />
  </svg>
`;
