/** The identity providers that the browser is sent to, and what one of them led to when it came back with nothing. */

import { useEffect, useLayoutEffect, useState } from "react";
import { send } from "./gateway";
import { operation } from "./operations";

export type Option = { name: string; label: string; startUrl: string | null };

const PROBLEM = /^#(?:sign-in|link)-error=([a-z-]+)$/;
const UNKNOWN = "The sign-in did not work. Start it again.";

/** The codes of docs/identity-providers.md. What is shown comes from here, never from the address. */
const SENTENCES = new Map([
  ["cancelled", "The sign-in was cancelled at the identity provider."],
  ["expired", "The sign-in took too long, or was used before. Start it again."],
  ["untrusted", "The answer of the identity provider could not be verified. Start signing in again."],
  ["incomplete", "The identity provider does not tell what the gateway needs. Ask an administrator."],
  ["no-role", "Your account is known, but it has no access here. Ask an administrator for it."],
  ["no-account", "You have no account here. Ask an administrator for one."],
  ["disabled", "Your account is disabled. Ask an administrator."],
  ["unavailable", "The identity provider cannot be reached. Try again in a moment."],
  ["taken", "This account at the identity provider belongs to another user here."],
  ["already-linked", "You have another account at this identity provider. Unlink it first."],
  ["session-ended", "Your session ended before the account was linked. Sign in, and start again."],
]);

function problemInAddress(): string {
  const code = PROBLEM.exec(location.hash)?.[1];
  return code === undefined ? "" : (SENTENCES.get(code) ?? UNKNOWN);
}

/** Tells whether the address says what went wrong at a provider. */
export const isProviderProblem = (hash: string): boolean => PROBLEM.test(hash);

/** Why that came to nothing from which the browser has just come back; "" if it has not. `hash` takes its place. */
export function useProviderProblem(hash = ""): string {
  const [problem] = useState(problemInAddress);
  useLayoutEffect(() => {
    if (PROBLEM.test(location.hash)) history.replaceState(null, "", location.pathname + location.search + hash);
  }, [hash]);
  return problem;
}

/** The ways to sign in; none where the gateway cannot be asked. */
export function useSignInOptions(): Option[] {
  const [options, setOptions] = useState<Option[]>([]);
  useEffect(() => {
    send<{ signInOptions: Option[] | null }>(operation("SignInOptions"), {}).then(
      ({ signInOptions }) => setOptions(signInOptions ?? []),
      () => setOptions([]),
    );
  }, []);
  return options;
}

/** One link for each provider; nothing where there is none, or the gateway cannot be asked: the form says so then. */
export function ProviderLinks() {
  const options = useSignInOptions();
  const returnTo = encodeURIComponent(location.pathname + location.search + location.hash.replace(PROBLEM, ""));
  const links = options.flatMap(({ name, label, startUrl }) =>
    startUrl === null ? [] : [{ name, label, href: `${startUrl}?returnTo=${returnTo}` }],
  );
  if (links.length === 0) return null;
  return (
    <nav className="providers" aria-label="Other ways to sign in">
      {links.map(({ name, label, href }) => (
        <a key={name} href={href}>
          Sign in with {label}
        </a>
      ))}
    </nav>
  );
}
