/** The page: the sign-in form until somebody is signed in, then two views with one header above them. */

import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { connect, describe, isUnauthenticated, type Gateway, type User } from "./gateway";
import { operation } from "./operations";
import { dropSession, forgetEverything, keepSession, readSession, type Session } from "./session";
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
  const [session, setSession] = useState(readSession);
  const [notice, setNotice] = useState("");

  const signIn = useCallback((next: Session) => {
    keepSession(next);
    setNotice("");
    setSession(next);
  }, []);
  const refused = useCallback(() => {
    dropSession();
    setNotice(SESSION_ENDED);
    setSession(null);
  }, []);

  if (!session) return <SignIn notice={notice} onSignedIn={signIn} />;
  return <SignedIn key={session.token} session={session} onRefused={refused} />;
}

function SignedIn({ session, onRefused }: { session: Session; onRefused: () => void }) {
  const gateway = useMemo(() => connect(session.token, onRefused), [session, onRefused]);
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
  return <Views gateway={gateway} user={user} onSignOut={() => signOut(session, gateway)} />;
}

/** A fresh page is the surest way to leave nothing in memory; the request outlives this one. */
function signOut(session: Session, gateway: Gateway): void {
  forgetEverything();
  const ended = session.kind === "password" ? gateway.request(operation("Logout")) : Promise.resolve();
  void ended.catch(() => undefined).finally(() => location.reload());
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

export function Brand() {
  return (
    <span className="brand">
      <img src="./favicon.svg" alt="" width="28" height="28" />
      Ollagraph
    </span>
  );
}

const Loading = () => (
  <p className="loading" role="status">
    Loading…
  </p>
);
