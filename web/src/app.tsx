/** The page: the sign-in form until somebody is signed in, then the views with one header above them. */

import { lazy, Suspense, useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { AccountView } from "./account";
import { Brand } from "./brand";
import { ofKey, resume, type Credentials } from "./credentials";
import { DebugView } from "./debug";
import { deviceCode, DeviceView } from "./device";
import { connect, describe, isUnauthenticated, type Gateway, type User } from "./gateway";
import { operation } from "./operations";
import { ChangePassword, linkToken, SetPassword } from "./passwords";
import { dropKey, forgetEverything, readKey } from "./session";
import { SignIn } from "./sign-in";
import { isProviderProblem } from "./sign-in-options";
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

/** Who signed in before a reload: null is nobody. */
const remembered = async (): Promise<Credentials | null> => {
  const key = readKey();
  return key ? ofKey(key) : await resume();
};

export function App() {
  const [credentials, setCredentials] = useState<Credentials | null>();
  const link = linkToken(useHash());
  const [notice, setNotice] = useState("");
  const [problem, setProblem] = useState("");

  const begin = useCallback(() => {
    setProblem("");
    remembered().then(setCredentials, (error: unknown) => setProblem(describe(error)));
  }, []);
  useEffect(begin, [begin]);

  const signIn = useCallback((next: Credentials) => {
    setNotice("");
    setCredentials(next);
  }, []);
  const refused = useCallback(() => {
    dropKey();
    setNotice(SESSION_ENDED);
    setCredentials(null);
  }, []);

  if (link !== null) {
    return (
      <SetPassword
        token={link}
        onDone={(next) => {
          setNotice(next);
          setCredentials(null);
          location.hash = "";
        }}
      />
    );
  }
  if (problem) return <Problem problem={problem} again={begin} />;
  if (credentials === undefined) return <Loading />;
  if (credentials === null) return <SignIn notice={notice} onSignedIn={signIn} />;
  return <SignedIn credentials={credentials} onRefused={refused} />;
}

function Problem({ problem, again }: { problem: string; again: () => void }) {
  return (
    <main className="card">
      <p className="notice error" role="alert">
        {problem}
      </p>
      <button className="primary" onClick={again}>
        Try again
      </button>
    </main>
  );
}

function SignedIn({ credentials, onRefused }: { credentials: Credentials; onRefused: () => void }) {
  const gateway = useMemo(() => connect(credentials, onRefused), [credentials, onRefused]);
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

  if (problem) return <Problem problem={problem} again={() => void check()} />;
  if (!user) return <Loading />;
  if (user.mustChangePassword) {
    return (
      <main className="account">
        <p className="notice" role="status">
          Choose a password of your own before you go on.
        </p>
        <ChangePassword gateway={gateway} onChanged={() => void check()} />
      </main>
    );
  }
  return <Views gateway={gateway} user={user} onSignOut={() => signOut(credentials, gateway)} />;
}

/**
 * A fresh page is the surest way to leave nothing in memory; where the identity provider has a session, too, the way to
 * it leads over there. Throws where the session could not be ended.
 */
async function signOut({ kind }: Credentials, gateway: Gateway): Promise<void> {
  let next: string | null | undefined;
  try {
    if (kind === "session") {
      const { logout } = await gateway.request<{ logout: { logoutUrl?: string | null } }>(operation("Logout"));
      next = logout.logoutUrl;
    }
  } catch (error) {
    if (!isUnauthenticated(error)) throw error; // else it had ended before
  }
  forgetEverything();
  // GraphiQL stores its tabs a moment after they change, which may be now.
  addEventListener("pagehide", forgetEverything);
  if (next) location.assign(next);
  else location.reload();
}

const VIEWS = { "#try-it": "Try it", "#graphiql": "GraphiQL", "#account": "Account", "#debug": "Debug" } as const;

function useHash(): string {
  return useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
}

function Views({ gateway, user, onSignOut }: { gateway: Gateway; user: User; onSignOut: () => Promise<void> }) {
  const hash = useHash();
  const [problem, setProblem] = useState("");
  const device = deviceCode(hash);
  const view = hash in VIEWS ? hash : isProviderProblem(hash) ? "#account" : "#try-it";
  const shown = device !== null ? "#device" : view;
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
        <button onClick={() => void onSignOut().catch((error: unknown) => setProblem(describe(error)))}>Sign out</button>
      </header>
      {problem && (
        <p className="notice error" role="alert">
          You are still signed in. {problem}
        </p>
      )}
      {/* A view stays once it is open: a stream goes on, and GraphiQL keeps its tabs, while the other is looked at. */}
      <main className="try-it" hidden={shown !== "#try-it"}>
        <TryIt gateway={gateway} />
      </main>
      {shown === "#account" && (
        <main className="account">
          <AccountView gateway={gateway} />
        </main>
      )}
      {shown === "#debug" && (
        <main className="account">
          <DebugView gateway={gateway} />
        </main>
      )}
      {device !== null && (
        <main className="account">
          <DeviceView key={device} gateway={gateway} code={device} />
        </main>
      )}
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
