/** The one place that speaks to the gateway: HTTP for queries and mutations, one WebSocket for subscriptions. */

import { createClient, type Client } from "graphql-ws";
import type { Credentials } from "./credentials";
import { nameOf, note, noteSocket } from "./debug-log";
import { operation } from "./operations";
import type { GenerationEvent, Refused } from "./run";

const httpUrl = new URL("graphql", location.href).href;
const wsUrl = httpUrl.replace(/^http/, "ws");

export type User = { id: string; username: string; mustChangePassword?: boolean };
export type GenerateInput = { model: string; prompt: { text: string } };

/** `code` is the gateway's own (extensions.code, or the code of a result that implements UserError), where it gave one. */
export class GatewayError extends Error {
  constructor(
    message: string,
    readonly code?: string,
  ) {
    super(message);
  }
}

type ErrorLike = { message: string; extensions?: { code?: string } | null };
type Answer = { data?: unknown; errors?: ErrorLike[] };

const NO_ANSWER = "The gateway does not answer. Check that it is running and that you are online, then try again.";
export const UNAUTHENTICATED = "UNAUTHENTICATED";
const NOBODY = new Set([UNAUTHENTICATED, "SESSION_ENDED"]);
/** graphql-transport-ws: the token was refused (4401, 4403) when the socket opened, or ran out while it was open. */
const REFUSED = new Set([4401, 4403]);

const ms = (began: number): string => `${Math.round(performance.now() - began)} ms`;

const bearer = (token: string): string => `Bearer ${token}`;

function saysUnauthenticated(answer: Answer | null): boolean {
  return answer?.errors?.some((error) => error.extensions?.code === UNAUTHENTICATED) ?? false;
}

/** Null where the body is no JSON: a proxy's error page, say. */
async function readAnswer(response: Response): Promise<Answer | null> {
  try {
    return (await response.json()) as Answer;
  } catch {
    return null;
  }
}

/** Sends one query or mutation and gives its `data`. Throws a GatewayError whose message is fit to be shown. */
export async function send<Data>(source: string, variables: object, token?: string): Promise<Data> {
  const headers: Record<string, string> = {
    "content-type": "application/json",
    accept: "application/graphql-response+json, application/json;q=0.9",
  };
  if (token) headers.authorization = bearer(token);
  const body = JSON.stringify({ query: source, variables });
  const began = performance.now();
  const told = (outcome: string) => note("Request", `${nameOf(source)}: ${outcome}, ${ms(began)}`);
  const response = await fetch(httpUrl, { method: "POST", headers, body, cache: "no-store" }).catch(() => {
    told("no answer");
    throw new GatewayError(NO_ANSWER);
  });
  const answer = await readAnswer(response);
  const error = answer?.errors?.[0];
  told(error ? `HTTP ${response.status}, ${error.extensions?.code ?? "an error"}` : `HTTP ${response.status}`);
  if (error) throw new GatewayError(error.message, error.extensions?.code);
  if (response.status === 401) throw new GatewayError("The gateway refused the token.", UNAUTHENTICATED);
  if (!answer?.data) throw new GatewayError(`The gateway gave no usable answer (HTTP ${response.status}).`);
  return answer.data as Data;
}

type Result = { __typename: string; message?: string; code?: string };

/** A mutation's result union as a value or an exception: a member with a `message` implements the schema's UserError. */
export function unwrap<Success extends Result>(result: Success): Success {
  if (result.message !== undefined) throw new GatewayError(result.message, result.code);
  return result;
}

export const isUnauthenticated = (error: unknown): boolean =>
  error instanceof GatewayError && error.code !== undefined && NOBODY.has(error.code);

/** What a person reads when `error` happened: a socket's end, GraphQL errors, or anything thrown. */
export function describe(error: unknown): string {
  if (error instanceof CloseEvent) {
    return error.reason || (error.code === 1006 ? NO_ANSWER : `The connection was closed (code ${error.code}).`);
  }
  if (Array.isArray(error)) return error.map((one: ErrorLike) => one.message).join(" ");
  if (error instanceof Error) return error.message;
  return NO_ANSWER;
}

const codeOf = (error: unknown): string | undefined =>
  Array.isArray(error) ? (error as ErrorLike[])[0]?.extensions?.code : undefined;

export type StreamHandlers = {
  next: (event: GenerationEvent) => void;
  /** `code` is the gateway's own, where it gave one. */
  failed: (message: string, code?: string) => void;
  ended: () => void;
};

export type Gateway = {
  request: <Data>(source: string, variables?: object) => Promise<Data>;
  /** Starts and watches one generation; calling what it returns stops watching. */
  stream: (input: GenerateInput, handlers: StreamHandlers) => () => void;
  /** Watches one that was started before, behind the last event seen. */
  watch: (id: string, after: number, handlers: StreamHandlers) => () => void;
  /** For GraphiQL, which makes its own requests: `fetch` adds the token unless its user wrote a header of their own. */
  fetch: typeof fetch;
  /** The part of a graphql-ws client that is used. */
  sockets: Pick<Client, "subscribe" | "dispose" | "terminate">;
};

export const endpoint = httpUrl;

/** A gateway seen by one signed-in person. `onRefused` is called when the credentials are no longer accepted. */
export function connect(credentials: Credentials, onRefused: () => void): Gateway {
  /** Asks, and where the gateway does not accept the token asks once more with another. */
  async function withToken<Answer>(ask: (token: string) => Promise<Answer>): Promise<Answer> {
    try {
      const token = await credentials.token();
      try {
        return await ask(token);
      } catch (error) {
        if (!isUnauthenticated(error)) throw error;
        return await ask(await credentials.renewed(token));
      }
    } catch (error) {
      if (isUnauthenticated(error)) onRefused();
      throw error;
    }
  }

  const request = <Data>(source: string, variables: object = {}): Promise<Data> =>
    withToken((token) => send<Data>(source, variables, token));

  async function fetchAs(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const headers = new Headers(init?.headers);
    if (headers.has("authorization")) return fetch(input, { ...init, cache: "no-store" });
    return withToken(async (token) => {
      headers.set("authorization", bearer(token));
      const response = await fetch(input, { ...init, headers, cache: "no-store" });
      if (response.status === 401 || saysUnauthenticated(await readAnswer(response.clone()))) {
        throw new GatewayError("The gateway refused the token.", UNAUTHENTICATED);
      }
      return response;
    });
  }

  const { sockets, refused } = socketsOf(credentials, onRefused);

  /** A reload must not end the answer: it can be watched again, or stopped. */
  const stream = (input: GenerateInput, handlers: StreamHandlers): (() => void) =>
    subscribe(operation("Stream"), { input: { ...input, onDisconnect: "CONTINUE" } }, handlers);

  const watch = (id: string, after: number, handlers: StreamHandlers): (() => void) =>
    subscribe(operation("WatchGeneration"), { id, after }, handlers);

  function subscribe(query: string, variables: Record<string, unknown>, handlers: StreamHandlers): () => void {
    const { next } = handlers;
    note("Request", `${nameOf(query)}: begun`);
    // An error in an event is followed by the stream's end, which is then no second reason.
    let over = false;
    const failed = (error: unknown) => {
      note("Event", `failed: ${describe(error)}`);
      if (!over) handlers.failed(describe(error), codeOf(error));
      over = true;
    };
    const take = (event: GenerationEvent | Refused) => {
      note("Event", "sequence" in event ? `${event.__typename} ${event.sequence}` : event.__typename);
      if (event.__typename !== "GenerationRefused") next(event);
      else if (!over) handlers.failed(event.error.message, event.error.code);
      over ||= event.__typename === "GenerationRefused";
    };
    const ended = () => {
      note("Event", "complete");
      if (!over) handlers.ended();
      over = true;
    };
    return sockets.subscribe<Record<string, GenerationEvent | Refused>>(
      { query, variables },
      {
        next: (result) => {
          if (saysUnauthenticated(result as Answer)) refused();
          if (result.errors) failed(result.errors);
          else for (const event of Object.values(result.data ?? {})) take(event);
        },
        error: (error) => {
          if (Array.isArray(error) && saysUnauthenticated({ errors: error as ErrorLike[] })) refused();
          failed(error);
        },
        complete: ended,
      },
    );
  }

  return { request, stream, watch, fetch: fetchAs, sockets };
}

/** Subscriptions. A socket keeps the token that opened it, so there is a client for each token. */
function socketsOf(credentials: Credentials, onRefused: () => void) {
  const clients = new Map<string, Client>();
  let latest = "";

  /** Tells whether there is another token; what was cut off is taken up by who watches it. */
  function refused(token = latest) {
    credentials.renewed(token).catch((error: unknown) => {
      if (isUnauthenticated(error)) onRefused();
    });
  }

  function clientOf(token: string): Client {
    latest = token;
    const found = clients.get(token);
    if (found) return found;
    const client = createClient({
      url: wsUrl,
      connectionParams: { authorization: bearer(token) },
      // Coming back by itself would send `generate` again, and it would be counted again.
      retryAttempts: 0,
      on: {
        connecting: () => noteSocket("connecting"),
        connected: () => noteSocket("connected"),
        closed: (event) => {
          const { code } = event as { code?: number };
          noteSocket(`closed (code ${code ?? "unknown"})`);
          if (code !== undefined && REFUSED.has(code)) refused(token);
        },
      },
    });
    clients.set(token, client);
    return client;
  }

  const subscribe: Client["subscribe"] = (payload, sink) => {
    let left = false;
    let stop = () => sink.complete();
    credentials.token().then(
      (token) => {
        if (!left) stop = clientOf(token).subscribe(payload, sink);
      },
      (error: unknown) => {
        if (isUnauthenticated(error)) onRefused();
        if (!left) sink.error(error);
      },
    );
    return () => {
      left = true;
      stop();
    };
  };

  const dispose = () => clients.forEach((client) => void client.dispose());
  const terminate = () => clients.forEach((client) => client.terminate());
  return { sockets: { subscribe, dispose, terminate }, refused };
}
