// Calls to the API, each shown with the curl line that does the same and with the answer as it came.

import { copy, make } from "./view.js";

/** Calls of one click that are shown. */
const SHOWN_MAX = 4;

/** How often a call is repeated that was told to come later. */
const ATTEMPTS_MAX = 4;

/** How far the engine's clock is ahead of ours, in milliseconds. */
let ahead_ms = 0;

/** The time as the engine has it. Its Date header has whole seconds, so small differences are none. */
export const engineNow = () => Date.now() + (Math.abs(ahead_ms) > 2000 ? ahead_ms : 0);

/** A new idempotency key: one for each intention. Also where the page is not served securely. */
export const newKey = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `demo-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
};

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same call for a terminal. */
export const curl = (method, path, headers, body) => {
  const parts = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin + path)}`];
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body !== undefined) parts.push(`-d ${quoted(body)}`);
  return parts.join(" \\\n  ");
};

/** The calls of the last click in one part of the page. */
export class Shown {
  constructor(element) {
    this.element = element;
  }

  /** A new click: what came of the last one goes. */
  begin() {
    this.element.replaceChildren();
  }

  add(entry) {
    this.element.append(entry);
    while (this.element.children.length > SHOWN_MAX) this.element.firstChild.remove();
  }
}

const tone = (status) => (status === 0 || status >= 400 ? "bad" : status === 202 ? "wait" : "good");

const folded = (label, className, text, open) => {
  const pre = make("pre", className, text);
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", label);
  const details = make("details", "", make("summary", "", label), pre);
  details.open = open;
  return details;
};

const entryOf = (method, path, line, answer, took_ms) => {
  const status = answer.status === 0 ? "no answer" : `${answer.status} ${answer.statusText}`.trim();
  const button = make("button", "copy", "Copy", make("span", "unseen", ` the curl line for ${method} ${path}`));
  button.type = "button";
  button.addEventListener("click", () => copy(button, line));
  const head = make(
    "p",
    "call-head",
    make("span", "verb", method),
    make("code", "path", path),
    make("span", `chip ${tone(answer.status)}`, status),
    answer.replayed ? make("span", "chip replay", "Idempotent-Replayed") : null,
    make("span", "took", `${took_ms} ms`),
    button,
  );
  const entry = make("div", "call", head);
  if (answer.code) {
    const link = make("a", "", answer.code);
    link.href = answer.json?.type ?? "/docs";
    entry.append(make("p", "problem", link, ` · ${answer.json?.detail ?? "no problem that the engine knows"}`));
  }
  // On a phone the line would push the shop off the screen.
  entry.append(folded("The same with curl", "", line, matchMedia("(min-width: 36rem)").matches));
  if (answer.text) {
    entry.append(folded("The answer", "answer", answer.json ? JSON.stringify(answer.json, null, 2) : answer.text, false));
  }
  return entry;
};

const ask = async (method, path, headers, body) => {
  try {
    const reply = await fetch(path, { method, headers, body, cache: "no-store" });
    const date = Date.parse(reply.headers.get("date") ?? "");
    if (!Number.isNaN(date)) ahead_ms = date - Date.now();
    const text = await reply.text();
    let json = null;
    try {
      json = text ? JSON.parse(text) : null;
    } catch {
      // Not every answer is JSON; it is shown as it came.
    }
    return {
      status: reply.status,
      statusText: reply.statusText,
      ok: reply.ok,
      replayed: reply.headers.get("idempotent-replayed") === "true",
      code: reply.ok ? "" : (json?.code ?? `http_${reply.status}`),
      text,
      json,
    };
  } catch {
    return { status: 0, statusText: "", ok: false, replayed: false, code: "", text: "", json: null };
  }
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Sends one call and shows it. A call that was told to come later is sent again with the same key, as every storefront
 * should do; nothing of it is done twice.
 */
export const call = async (shown, method, path, { json, key, token } = {}) => {
  const headers = {};
  const body = json === undefined ? undefined : JSON.stringify(json);
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (token) headers["Cart-Token"] = token;
  const began = performance.now();
  let answer = await ask(method, path, headers, body);
  for (let attempt = 1; attempt < ATTEMPTS_MAX && (key || method === "GET") && answer.json?.retryable && answer.status !== 402; attempt += 1) {
    await pause(Math.min(answer.json.retry_after_ms ?? 500, 3000));
    answer = await ask(method, path, headers, body);
  }
  const took_ms = Math.round(performance.now() - began);
  shown?.add(entryOf(method, path, curl(method, path, headers, body), answer, took_ms));
  return answer;
};
