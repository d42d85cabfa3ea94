/** The page: the sign-in form until somebody is signed in, then two views with one header above them. */

import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { Brand } from "./brand";
import { connect, describe, isUnauthenticated, type Gateway, type User } from "./gateway";
import { operation } from "./operations";
import { dropToken, forgetEverything, keepToken, readToken } from "./session";
import { SignIn } from "./sign-in";
import { TryIt } from "./try-it";

const SESSION_ENDED = "Your session has ended. Please sign in again.";

/** Most of the page's weight, so it comes only to who opens it. */
const Explorer = lazy(() => import("./explorer").catch(() => ({ default: ExplorerMissing })));

function ExplorerMissing() {
  return (
    <p className="notice error" role="alert">
      GraphiQL could not be loaded. Reload the page to try again.
    </p>
  );
}

export function App() {
  const [token, setToken] = useState(readToken);
  const [notice, setNotice] = useState("");

  const signIn = useCallback((next: string) => {
    keepToken(next);
    setNotice("");
    setToken(next);
  }, []);
  const refused = useCallback(() => {
    dropToken();
    setNotice(SESSION_ENDED);
    setToken(null);
  }, []);

  if (!token) return <SignIn notice={notice} onSignedIn={signIn} />;
  return <SignedIn key={token} token={token} onRefused={refused} />;
}

function SignedIn({ token, onRefused }: { token: string; onRefused: () => void }) {
  const gateway = useMemo(() => connect(token, onRefused), [token, onRefused]);
  const [user, setUser] = useState<User>();
  const [problem, setProblem] = useState("");

  const check = useCallback(async () => {
    setProblem("");
    try {
      const { me } = await gateway.request<{ me: User | null }>(operation("Me"));
      if (me) setUser(me);
      else onRefused();
    } catch (error) {
      if (!isUnauthenticated(error)) setProblem(describe(error));
    }
  }, [gateway, onRefused]);

  useEffect(() => {
    void check();
    return () => void gateway.sockets.dispose();
  }, [check, gateway]);

  if (problem) {
    return (
      <main className="card">
        <p className="notice error" role="alert">
          {problem}
        </p>
        <button className="primary" onClick={() => void check()}>
          Try again
        </button>
      </main>
    );
  }
  if (!user) return <Loading />;
  return <Views gateway={gateway} user={user} onSignOut={signOut} />;
}

/** A fresh page is the surest way to leave nothing in memory. */
function signOut(): void {
  forgetEverything();
  // GraphiQL stores its tabs a moment after they change, which may be now.
  addEventListener("pagehide", forgetEverything);
  location.reload();
}

const VIEWS = { "#try-it": "Try it", "#graphiql": "GraphiQL" } as const;

function useHash(): string {
  return useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
}

function Views({ gateway, user, onSignOut }: { gateway: Gateway; user: User; onSignOut: () => void }) {
  const hash = useHash();
  const shown = hash in VIEWS ? hash : "#try-it";
  const explorerSeen = useRef(false);
  explorerSeen.current ||= shown === "#graphiql";

  return (
    <>
      <header>
        <Brand />
        <nav aria-label="Views">
          {Object.entries(VIEWS).map(([target, name]) => (
            <a key={target} href={target} aria-current={target === shown ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <span className="who">
          Signed in as <strong>{user.username}</strong>
        </span>
        <button onClick={onSignOut}>Sign out</button>
      </header>
      {/* A view stays once it is open: a stream goes on, and GraphiQL keeps its tabs, while the other is looked at. */}
      <main className="try-it" hidden={shown !== "#try-it"}>
        <TryIt gateway={gateway} />
      </main>
      {explorerSeen.current && (
        <main className="explorer" hidden={shown !== "#graphiql"}>
          <Suspense fallback={<Loading />}>
            <Explorer gateway={gateway} />
          </Suspense>
        </main>
      )}
    </>
  );
}

const Loading = () => (
  <p className="loading" role="status">
    Loading…
  </p>
);
