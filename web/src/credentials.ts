/**
 * What the page shows the gateway. A session has a cookie that no script can read, and an access token that is nowhere
 * but in memory: after a reload the cookie gives another one. Several tabs share the cookie; those that refresh at once
 * get the same next one from the gateway.
 */

import { GatewayError, send, UNAUTHENTICATED, unwrap } from "./gateway";
import { operation } from "./operations";

export type Credentials = {
  kind: "session" | "key";
  /** A token that holds as far as is known; where the last one is about to expire, a new one is asked for. */
  token: () => Promise<string>;
  /** Another token, where the gateway refused this one. Throws where there is no other. */
  renewed: (refused: string) => Promise<string>;
};

type Tokens = { __typename: string; accessToken: string; expiresAt: string };

/** How long before its end a token is not used any more. */
const EARLY_MS = 60_000;
/** How long a token is used at least: a clock that is wrong must not ask for one before each request. */
const LEAST_MS = 30_000;

export const ofKey = (key: string): Credentials => ({
  kind: "key",
  token: () => Promise.resolve(key),
  renewed: () => Promise.reject(new GatewayError("The gateway no longer accepts this key.", UNAUTHENTICATED)),
});

function ofSession(first: Tokens): Credentials {
  let current = first.accessToken;
  let usedUntil = lastUse(first);
  let refreshing: Promise<string> | undefined;

  async function next(): Promise<string> {
    const tokens = await refresh();
    usedUntil = lastUse(tokens);
    return (current = tokens.accessToken);
  }
  const refreshed = () => (refreshing ??= next().finally(() => (refreshing = undefined)));

  return {
    kind: "session",
    token: () => (Date.now() < usedUntil ? Promise.resolve(current) : refreshed()),
    renewed: (refused) => (refused === current ? refreshed() : Promise.resolve(current)),
  };
}

const lastUse = ({ expiresAt }: Tokens): number =>
  Math.max(Date.parse(expiresAt) - EARLY_MS, Date.now() + LEAST_MS);

async function refresh(): Promise<Tokens> {
  const { refreshSession } = await send<{ refreshSession: Tokens }>(operation("RefreshSession"), {});
  return unwrap(refreshSession);
}

export async function login(username: string, password: string): Promise<Credentials> {
  const input = { username, password, refreshTokenIn: "COOKIE" };
  const { login: result } = await send<{ login: Tokens }>(operation("Login"), { input });
  return ofSession(unwrap(result));
}

/** The session of the browser's cookie; null where there is none that holds. */
export async function resume(): Promise<Credentials | null> {
  try {
    return ofSession(await refresh());
  } catch (error) {
    if (error instanceof GatewayError && error.code === "SESSION_ENDED") return null;
    throw error;
  }
}
