// Talking to the server: JSON, and streams of server-sent events. Where the server wants a key, it is asked for once.
import { h } from "./dom.js";

let key = null;
let asking = null;

function headers(body) {
  return { ...(body ? { "content-type": "application/json" } : {}), ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function send(path, body, signal) {
  for (;;) {
    const response = await fetch(path, {
      method: body ? "POST" : "GET", headers: headers(body), body: body ? JSON.stringify(body) : undefined, signal,
    });
    if (response.status === 401) {
      await (asking ??= askForKey(key !== null).finally(() => { asking = null; }));
      continue;
    }
    if (response.ok) return response;
    throw new Error(await reason(response));
  }
}

async function reason(response) {
  try {
    const body = await response.json();
    if (body.error?.message) return body.error.message;
  } catch {
    // No JSON: the status is all there is to say.
  }
  if (response.status === 429) return "Too many requests at once. Wait a moment, then try again.";
  return `The server answered ${response.status} ${response.statusText}.`;
}

export async function ask(path, body = null, signal = undefined) {
  try {
    return await (await send(path, body, signal)).json();
  } catch (error) {
    throw told(error);
  }
}

/** Calls `onevent` with each event's JSON until the stream ends. Aborting `signal` ends it early, without an error. */
export async function stream(path, body, signal, onevent) {
  try {
    const response = await send(path, body, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new Error(event.error.message);
        onevent(event);
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") throw told(error);
  }
}

function told(error) {
  return error instanceof TypeError ? new Error("The server cannot be reached. Is it still running?") : error;
}

function askForKey(wrong) {
  const input = h("input", { type: "password", autocomplete: "current-password", "aria-label": "API key", required: true });
  const form = h(
    "form", { method: "dialog" }, h("h2", {}, "This server wants a key"),
    h("p", {}, wrong ? "The server does not know that key." : "Whoever runs it can make one: seedbed keys new. It is kept in this tab only."),
    input, h("div", { class: "actions" }, h("button", { type: "submit" }, "Use this key")),
  );
  const dialog = h("dialog", {}, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      key = input.value.trim();
      dialog.remove();
      resolve();
    });
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  });
}
