/** A user name and a password, or an API key, become credentials that the gateway has been seen to accept. */

import { useState, type FormEvent } from "react";
import { Brand } from "./brand";
import { login, ofKey, type Credentials } from "./credentials";
import { describe, GatewayError, isUnauthenticated, send, type User } from "./gateway";
import { operation } from "./operations";
import { keepKey } from "./session";
import { ProviderLinks, useProviderProblem } from "./sign-in-options";

type Kind = "password" | "key";

const KEY_REFUSED = "The gateway does not accept this key. It may be mistyped, expired or revoked.";
/** RFC 6750 section 2.1, b64token: what can stand in the header at all. */
const TOKEN = /^[\w\-.~+/]+=*$/;

async function checkKey(key: string): Promise<Credentials> {
  if (!TOKEN.test(key)) throw new GatewayError("This is no API key: it has characters in it that no key has.");
  try {
    const { me } = await send<{ me: User | null }>(operation("Me"), {}, key);
    if (me) {
      keepKey(key);
      return ofKey(key);
    }
  } catch (error) {
    if (!isUnauthenticated(error)) throw error;
  }
  throw new GatewayError(KEY_REFUSED);
}

export function SignIn({ notice, onSignedIn }: { notice: string; onSignedIn: (credentials: Credentials) => void }) {
  const [kind, setKind] = useState<Kind>("password");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(useProviderProblem());

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const field = (name: string) => String(form.get(name) ?? "");
    setBusy(true);
    setProblem("");
    try {
      const credentials =
        kind === "password"
          ? await login(field("username").trim(), field("password"))
          : await checkKey(field("key").trim());
      onSignedIn(credentials);
    } catch (error) {
      setProblem(describe(error));
      setBusy(false);
    }
  }

  function choose(next: Kind) {
    setProblem("");
    setKind(next);
  }

  return (
    <main className="card">
      <h1>
        <Brand />
      </h1>
      {notice && !problem && (
        <p className="notice" role="status">
          {notice}
        </p>
      )}
      <form key={kind} onSubmit={(event) => void submit(event)} aria-label="Sign in">
        {kind === "password" ? <PasswordFields /> : <KeyField />}
        {problem && (
          <p className="notice error" role="alert">
            {problem}
          </p>
        )}
        <button className="primary" disabled={busy}>
          {busy ? "Signing in…" : "Sign in"}
        </button>
      </form>
      <ProviderLinks />
      <button className="link" onClick={() => choose(kind === "password" ? "key" : "password")}>
        {kind === "password" ? "Use an API key instead" : "Use a user name and password instead"}
      </button>
    </main>
  );
}

function PasswordFields() {
  return (
    <>
      <label>
        User name
        <input name="username" autoComplete="username" autoCapitalize="none" spellCheck={false} required autoFocus />
      </label>
      <label>
        Password
        <input name="password" type="password" autoComplete="current-password" required />
      </label>
    </>
  );
}

function KeyField() {
  return (
    <label>
      API key
      <input name="key" type="password" autoComplete="off" spellCheck={false} required autoFocus />
    </label>
  );
}
