// Words of the chosen language. Texts have {places}; one that depends on a count has a form for each plural.

export const LANGUAGES = { en: "English", de: "Deutsch", zh: "中文" };

const KEY = "visavis.language";
let texts = {};
let language = "en";
let plural = new Intl.PluralRules("en");
let region = "en"; // whose way of writing dates and numbers: the browser's, where it is of this language

/** The language in use, as a BCP 47 tag. */
export const locale = () => language;

/** Take the language chosen before, else the first that the browser asks for and we have. */
export function firstLanguage() {
  const wanted = [localStorage.getItem(KEY), ...navigator.languages].map((tag) => tag?.slice(0, 2).toLowerCase());
  return wanted.find((tag) => tag in LANGUAGES) ?? "en";
}

/** Load a language's texts and use them from now on. */
export async function useLanguage(tag, { remember = false } = {}) {
  texts = (await import(`./i18n/${tag}.js`)).default;
  language = tag;
  plural = new Intl.PluralRules(tag);
  region = navigator.languages.find((one) => one.toLowerCase().startsWith(tag)) ?? tag;
  document.documentElement.lang = tag === "zh" ? "zh-Hans" : tag;
  if (remember) localStorage.setItem(KEY, tag);
}

/** The text of a key; `values.count` chooses the plural, and numbers are written as the language does. */
export function t(key, values = {}) {
  let text = texts[key];
  if (typeof text === "object") text = text[plural.select(values.count)] ?? text.other;
  if (text === undefined) {
    console.error(`i18n: expected a text, got none for ${key}`);
    return key;
  }
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : String(value);
  });
}

/** Whether there is a text of this key. */
export const has = (key) => key in texts;

export const number = (value, options) => new Intl.NumberFormat(region, options).format(value);

/** A share in [0, 1] as per cent; near 0 and 1 with as many digits as it takes to differ from them. */
export function percent(share) {
  const rest = Math.min(share, 1 - share);
  const digits = rest <= 0 || rest >= 0.1 ? 0 : Math.min(6, Math.ceil(-Math.log10(rest)) - 1);
  return number(share, { style: "percent", maximumFractionDigits: digits, minimumFractionDigits: digits });
}

/** A date and time out of an ISO text; the server's local times have no zone and get none. */
export const date = (iso, options = { dateStyle: "long", timeStyle: "short" }) =>
  new Intl.DateTimeFormat(region, options).format(new Date(iso));

export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, count < 1 ? 0 : Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return number(value, { style: "unit", unit: units[power], unitDisplay: "short", maximumFractionDigits: value < 10 ? 1 : 0 });
}
