/** The identity providers that a person signs in with: linking one more, and unlinking one. */

import { useState, type FormEvent } from "react";
import { GatewayError } from "./gateway";
import { moment, Panel, useAction, type Change, type Result } from "./panel";
import { useProviderProblem, useSignInOptions, type Option } from "./sign-in-options";

export type ExternalAccount = {
  provider: string;
  label: string;
  username: string;
  linkedAt: string;
  lastSignedInAt: string | null;
};
type Linked = Result & { url?: string | null };

const TOO_OLD = "RECENT_SIGN_IN_REQUIRED";

export function SignInMethods({ accounts, change }: { accounts: ExternalAccount[]; change: Change }) {
  const { busy, problem, run } = useAction(useProviderProblem("#account"));
  const [asked, setAsked] = useState<Option>();
  const [tooOld, setTooOld] = useState(false);
  const options = useSignInOptions().filter(
    ({ name }) => name !== "password" && !accounts.some(({ provider }) => provider === name),
  );

  const link = (option: Option, more: Record<string, string> = {}) =>
    run(async () => {
      try {
        const { url } = await change<Linked>("LinkProvider", { input: { provider: option.name, ...more } });
        if (url) location.assign(url);
        setAsked(undefined);
      } catch (error) {
        if (!(error instanceof GatewayError && error.code === TOO_OLD)) throw error;
        setTooOld(true);
        setAsked(option);
        if (tooOld) throw error;
      }
    });

  /** A directory needs a password at once; of the others, only who signed in long ago is asked for theirs. */
  const begin = (option: Option) => (option.startUrl === null ? setAsked(option) : link(option));

  function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    if (!asked) return;
    const given = [...new FormData(event.currentTarget)].flatMap(([name, value]) =>
      typeof value === "string" && value ? [[name, value] as const] : [],
    );
    link(asked, Object.fromEntries(given));
  }

  return (
    <Panel title="Sign-in methods" problem={problem}>
      <ul className="things">
        {accounts.map(({ provider, label, username, linkedAt, lastSignedInAt }) => (
          <li key={provider}>
            <div>
              <strong>{label}</strong> {username}
              <p className="facts">
                linked {moment(linkedAt)}
                {lastSignedInAt && ` · last used ${moment(lastSignedInAt)}`}
              </p>
            </div>
            <button
              disabled={busy}
              aria-label={`Unlink ${label}`}
              onClick={() => run(() => change("UnlinkProvider", { provider }))}
            >
              Unlink
            </button>
          </li>
        ))}
      </ul>
      {!accounts.length && <p className="facts">No identity provider is linked.</p>}
      {asked ? (
        <form key={asked.name} onSubmit={submit} aria-label={`Link ${asked.label}`}>
          {asked.startUrl === null && <DirectoryFields label={asked.label} />}
          {tooOld && (
            <label>
              Your sign-in is some time ago: the password that you sign in with here
              <input name="currentPassword" type="password" autoComplete="current-password" required />
            </label>
          )}
          <div className="actions">
            <button className="primary" disabled={busy}>
              Link {asked.label}
            </button>
            <button type="button" onClick={() => setAsked(undefined)}>
              Cancel
            </button>
          </div>
        </form>
      ) : (
        options.length > 0 && (
          <p className="actions">
            {options.map((option) => (
              <button key={option.name} disabled={busy} onClick={() => begin(option)}>
                Link {option.label}
              </button>
            ))}
          </p>
        )
      )}
    </Panel>
  );
}

function DirectoryFields({ label }: { label: string }) {
  return (
    <>
      <label>
        User name at {label}
        <input name="username" autoComplete="off" autoCapitalize="none" spellCheck={false} required />
      </label>
      <label>
        Password at {label}
        <input name="password" type="password" autoComplete="off" required />
      </label>
    </>
  );
}
