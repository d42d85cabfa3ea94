// What every example needs, whatever its client: documents, signing in, and a stream that survives lost connections.
import { setTimeout as wait } from "node:timers/promises";

export const url = process.env.OLLAGRAPH_URL ?? "http://127.0.0.1:8000/graphql";
export const webSocketUrl = url.replace(/^http/, "ws");

const LOGIN = `
  mutation ($input: LoginInput!) {
    login(input: $input) {
      ... on LoginSuccess { accessToken }
      ... on UserError { message }
    }
  }`;

// A generation that is started lives by itself, and any number of subscriptions may watch it, one after the other.
// The subscription `generate` does both at once, so a client that subscribes again would ask the model twice.
export const START = `
  mutation ($input: GenerateInput!) {
    startGeneration(input: $input) {
      ... on StartGenerationSuccess { generation { id } }
      ... on UserError { message }
    }
  }`;

export const WATCH = `
  subscription ($id: ID!, $after: Int!) {
    generation(id: $id, after: $after) {
      __typename
      sequence
      ... on TextDelta { text offset }
      ... on GenerationCompleted { finishReason usage { promptTokens completionTokens source } }
      ... on GenerationCancelled { cancelReason usage { promptTokens completionTokens source } }
      ... on GenerationFailed { error { message } usage { promptTokens completionTokens source } }
    }
  }`;

const CANCEL = `
  mutation ($input: CancelGenerationInput!) {
    cancelGeneration(input: $input) {
      ... on UserError { message }
    }
  }`;

/** The variables of START. Without CONTINUE, the model stops as soon as a connection is lost. */
export function request([prompt = "Tell me a story", model = "smollm2:135m"] = process.argv.slice(2)) {
  return { input: { model, prompt: { text: prompt }, onDisconnect: "CONTINUE" } };
}

/** What to send as `Authorization`: an API key, or the token of a sign-in by name and password. */
export async function authorization(env = process.env) {
  if (env.OLLAGRAPH_API_KEY) return `Bearer ${env.OLLAGRAPH_API_KEY}`;
  if (!env.OLLAGRAPH_PASSWORD) throw new Error("Set OLLAGRAPH_API_KEY, or OLLAGRAPH_USERNAME and OLLAGRAPH_PASSWORD");
  const input = { username: env.OLLAGRAPH_USERNAME ?? "admin", password: env.OLLAGRAPH_PASSWORD };
  const { login } = await post(LOGIN, { input });
  if (!login.accessToken) throw new Refused([login]);
  return `Bearer ${login.accessToken}`;
}

/** Send a query or mutation over HTTP without any client, and give its data. */
export async function post(query, variables, headers = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Refused(errors);
  return data;
}

/** The gateway answered, with errors: asking again is of no use. */
export class Refused extends Error {
  constructor(errors) {
    super(errors.map((error) => error.message).join("\n"));
  }
}

process.on("uncaughtException", (error) => {
  console.error(error instanceof Refused ? error.message : error);
  process.exit(1);
});

/** The id of the generation that START began. */
export function idOf({ startGeneration: { generation, message } }) {
  if (!generation) throw new Refused([{ message }]);
  return generation.id;
}

/** The text with a piece put in its place: what comes twice changes nothing. */
export function apply(text, delta) {
  return text.slice(0, delta.offset) + delta.text + text.slice(delta.offset + delta.text.length);
}

/**
 * Print a generation's text as it comes and give its last event. `watch` runs the subscription WATCH to its end with
 * the variables it is given, and hands on each event; when it throws, it is called again behind the last event seen.
 */
export async function follow(id, watch, attempts = 8) {
  let text = "";
  let last = { sequence: 0 };
  let failures = 0;

  function see(event) {
    failures = 0;
    last = event;
    if (event.__typename !== "TextDelta") return;
    const longer = apply(text, event);
    process.stdout.write(longer.slice(text.length));
    text = longer;
  }

  while (!last.usage) {
    try {
      await watch({ id, after: last.sequence }, see);
      if (!last.usage) throw new Error("The stream ended before the generation did");
    } catch (error) {
      if (isFinal(error) || ++failures > attempts) throw error;
      await wait(50 * 2 ** failures); // 0.1 seconds, 0.2 ... 12.8
    }
  }
  return last;
}

/** End the generation on Ctrl-C: its stream then tells what it used. A second Ctrl-C ends the program itself. */
export function cancelOnInterrupt(id, headers) {
  process.once("SIGINT", () => post(CANCEL, { input: { id } }, headers));
}

/** Whether to give up: by the protocol graphql-transport-ws, close codes 4400 to 4499 say it is the client's fault. */
function isFinal(error) {
  return error instanceof Refused || (error.code >= 4400 && error.code < 4500);
}

/** Tell how the generation ended, apart from its text. */
export function tell({ finishReason, cancelReason, error, usage }) {
  const end = cancelReason ? `CANCELLED (${cancelReason})` : (finishReason ?? error.message);
  console.error(`\n[${end}: ${usage.promptTokens} + ${usage.completionTokens} tokens]`);
  if (error) process.exitCode = 1;
}
