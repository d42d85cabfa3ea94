/** What belongs to the signed-in person: the password, the ways to sign in, the sessions, and the API keys. */

import { useCallback, useEffect, useState, type FormEvent } from "react";
import { describe, unwrap, type Gateway } from "./gateway";
import { operation } from "./operations";
import { moment, Panel, useAction, type Change, type Result } from "./panel";
import { ChangePassword } from "./passwords";
import { SignInMethods, type ExternalAccount } from "./sign-in-methods";

type Session = { id: string; client: string; address: string; lastUsedAt: string; current: boolean };
type ApiKey = {
  id: string;
  name: string;
  prefix: string;
  scopes: string[];
  expiresAt: string | null;
  lastUsedAt: string | null;
  lastUsedAddress: string | null;
  revokedAt: string | null;
};
type Person = {
  username: string;
  displayName: string | null;
  email: string | null;
  role: string;
  externalAccounts: ExternalAccount[];
  sessions: Session[];
  apiKeys: ApiKey[];
};
type Account = { viewer: { scopes: string[]; session: { id: string } | null } | null; me: Person | null };
type Secret = Result & { secret?: string; apiKey?: { name: string; previousExpiresAt?: string | null } };

const BROWSERS = { Edg: "Edge", OPR: "Opera", Firefox: "Firefox", Chrome: "Chrome", Safari: "Safari" };
const SYSTEMS = { Android: "Android", iPhone: "iPhone", iPad: "iPad", Windows: "Windows", Mac: "macOS", Linux: "Linux" };

/** A browser's User-Agent as people would say it; any other as it is. */
function device(client: string): string {
  const known = (names: Record<string, string>) => Object.entries(names).find(([word]) => client.includes(word))?.[1];
  const browser = client.startsWith("Mozilla/") ? known(BROWSERS) : undefined;
  const system = known(SYSTEMS);
  return browser && system ? `${browser} on ${system}` : client || "Unknown device";
}

/** A day from now, and so on, for the field of a key's expiry. */
const inDays = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString();

export function AccountView({ gateway }: { gateway: Gateway }) {
  const [account, setAccount] = useState<Account>();
  const [problem, setProblem] = useState("");

  const load = useCallback(async () => {
    try {
      setAccount(await gateway.request<Account>(operation("Account")));
      setProblem("");
    } catch (error) {
      setProblem(describe(error));
    }
  }, [gateway]);
  useEffect(() => void load(), [load]);

  /** Sends a mutation of one result, and loads again what it may have changed. */
  const change = useCallback(
    async <R extends Result>(name: string, variables: object): Promise<R> => {
      const data = await gateway.request<Record<string, R>>(operation(name), variables);
      const [result] = Object.values(data);
      if (result) unwrap(result);
      await load();
      return result as R;
    },
    [gateway, load],
  );

  if (problem && !account)
    return (
      <p className="notice error" role="alert">
        {problem}
      </p>
    );
  if (!account?.me) return null;
  const { me, viewer } = account;
  const may = (scope: string) => viewer?.scopes.includes(scope) ?? false;
  return (
    <>
      <section className="panel" aria-label="Profile">
        <h2>{me.displayName ?? me.username}</h2>
        <p className="facts">
          {me.username} · {me.role}
          {me.email && ` · ${me.email}`}
        </p>
      </section>
      {viewer?.session && <ChangePassword gateway={gateway} onChanged={() => void load()} />}
      {viewer?.session && <SignInMethods accounts={me.externalAccounts} change={change} />}
      <Sessions sessions={me.sessions} change={change} />
      <ApiKeys keys={me.apiKeys} mayWrite={may("KEYS_WRITE")} change={change} />
    </>
  );
}

function Sessions({ sessions, change }: { sessions: Session[]; change: Change }) {
  const { busy, problem, run } = useAction();
  return (
    <Panel title="Sessions" problem={problem}>
      <ul className="things">
        {sessions.map((session) => (
          <li key={session.id}>
            <div>
              <strong title={session.client}>{device(session.client)}</strong>
              <p className="facts">
                {session.address} · {session.current ? "this session" : `last used ${moment(session.lastUsedAt)}`}
              </p>
            </div>
            {!session.current && (
              <button
                disabled={busy}
                aria-label={`End the session of ${device(session.client)} at ${session.address}`}
                onClick={() => run(() => change("RevokeSession", { id: session.id }))}
              >
                End
              </button>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function ApiKeys({ keys, mayWrite, change }: { keys: ApiKey[]; mayWrite: boolean; change: Change }) {
  const { busy, problem, run } = useAction();
  const [shown, setShown] = useState<{ name: string; secret: string; until?: string | null }>();
  const show = (result: Secret) =>
    setShown({
      name: result.apiKey?.name ?? "",
      secret: result.secret ?? "",
      until: result.apiKey?.previousExpiresAt,
    });

  function create(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const element = event.currentTarget;
    const form = new FormData(element);
    const days = Number(form.get("days"));
    const input = { name: String(form.get("name") ?? ""), expiresAt: days ? inDays(days) : null };
    run(async () => {
      show(await change<Secret>("CreateApiKey", { input }));
      element.reset();
    });
  }

  /** The idempotency key makes one new secret of a click that is sent twice. */
  const rotate = (id: string) =>
    run(async () => {
      const input = { id, idempotencyKey: crypto.randomUUID() };
      show(await change<Secret>("RotateApiKey", { input }));
    });

  const valid = keys.filter(({ revokedAt, expiresAt }) => !revokedAt && !(expiresAt && new Date(expiresAt) < new Date()));
  return (
    <Panel title="API keys" problem={problem}>
      {shown && (
        <div className="notice secret" role="status">
          <p>
            The secret of <strong>{shown.name}</strong>. It is shown this once: store it now.
            {shown.until && ` The old secret works until ${moment(shown.until)}.`}
          </p>
          <code>{shown.secret}</code>
          <p className="actions">
            <button onClick={() => run(() => navigator.clipboard.writeText(shown.secret))}>Copy</button>
            <button onClick={() => setShown(undefined)}>Done</button>
          </p>
        </div>
      )}
      <ul className="things">
        {valid.map((key) => (
          <li key={key.id}>
            <div>
              <strong>{key.name}</strong> <code>{key.prefix}…</code>
              <p className="facts">
                {key.lastUsedAt ? `last used ${moment(key.lastUsedAt)}` : "never used"}
                {key.lastUsedAddress && ` from ${key.lastUsedAddress}`}
                {key.expiresAt && ` · expires ${moment(key.expiresAt)}`}
              </p>
            </div>
            {mayWrite && (
              <span className="actions">
                <button disabled={busy} aria-label={`Rotate ${key.name}`} onClick={() => rotate(key.id)}>
                  Rotate
                </button>
                <button
                  disabled={busy}
                  aria-label={`Revoke ${key.name}`}
                  onClick={() => run(() => change("RevokeApiKey", { id: key.id }))}
                >
                  Revoke
                </button>
              </span>
            )}
          </li>
        ))}
      </ul>
      {!valid.length && <p className="facts">There is no valid key.</p>}
      {mayWrite && (
        <form onSubmit={create} aria-label="Create API key">
          <label>
            Name of a new key
            <input name="name" maxLength={100} autoComplete="off" required />
          </label>
          <label>
            Expires
            <select name="days" defaultValue="90">
              <option value="30">in 30 days</option>
              <option value="90">in 90 days</option>
              <option value="365">in a year</option>
              <option value="0">never</option>
            </select>
          </label>
          <div className="actions">
            <button className="primary" disabled={busy}>
              Create key
            </button>
          </div>
        </form>
      )}
    </Panel>
  );
}
