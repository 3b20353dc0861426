// What the page asks of the server. The key, where one is needed, stays in this tab.

let model = "";

export function useModel(name) {
  model = name;
}

export function useKey(key) {
  sessionStorage.setItem("key", key);
}

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const key = sessionStorage.getItem("key");
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function checked(response) {
  if (response.ok) return response;
  const said = (await response.json().catch(() => ({}))).error;
  throw new ServerError(response.status, said?.message ?? said ?? response.statusText);
}

async function send(path, body) {
  return checked(
    await fetch(path, { method: "POST", headers: headers(), body: JSON.stringify(body) }),
  );
}

const suffix = () => (model ? `?model=${encodeURIComponent(model)}` : "");

export async function info() {
  return (await checked(await fetch(`/info${suffix()}`, { headers: headers() }))).json();
}

/** Several inputs of one task: its results, in their order. */
export async function ask(task, input, options = {}) {
  const body = { input, options, ...(model ? { model } : {}) };
  const response = await send(`/v1/tasks/${encodeURIComponent(task)}`, body);
  const { results } = await response.json();
  return results.map((result) => ({
    ...result,
    milliseconds: Number(response.headers.get("x-inference-time")),
  }));
}

/** Why a task answers a row as it does: `asked` has the input, the method and perhaps an answer. */
export async function explain(task, asked) {
  const path = `/v1/tasks/${encodeURIComponent(task)}/explain`;
  return (await (await send(path, { ...asked, ...(model ? { model } : {}) })).json()).explanation;
}

/** Where a layer looks: `asked` has the input, and the layer unless it is the last. */
export async function attention(task, asked) {
  const path = `/v1/tasks/${encodeURIComponent(task)}/attention`;
  return (await (await send(path, { ...asked, ...(model ? { model } : {}) })).json()).attention;
}

export async function similarity(first, others) {
  const inputs = { source_sentence: first, sentences: others };
  return (await send(`/similarity${suffix()}`, { inputs })).json();
}

/** A text as it is written: `part` is called with each, and the whole result is returned. */
export async function write(task, input, part) {
  const body = { input, stream: true, ...(model ? { model } : {}) };
  const response = await send(`/v1/tasks/${encodeURIComponent(task)}`, body);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const said = JSON.parse(data);
      if (said.error) throw new ServerError(500, said.error.message);
      if (said.result) return said.result;
      part(said.part);
    }
    if (done) throw new ServerError(500, "the text broke off");
  }
}

/** The server's figures, summed over their labels. */
export async function figures() {
  const text = await (await checked(await fetch("/metrics", { headers: headers() }))).text();
  const sums = {};
  for (const line of text.split("\n")) {
    const found = /^(\w+)(\{.*\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name, labels, value] = found;
    sums[name] = (sums[name] ?? 0) + Number(value);
    const result = /result="(\w+)"/.exec(labels ?? "");
    if (result) sums[`${name}_${result[1]}`] = (sums[`${name}_${result[1]}`] ?? 0) + Number(value);
  }
  return sums;
}
