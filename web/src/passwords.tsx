/** Choosing a password: changing one's own, and setting one with the link of an invitation or a reset. */

import { useId, useState, type FormEvent } from "react";
import { Brand } from "./brand";
import { describe, GatewayError, send, unwrap, type Gateway } from "./gateway";
import { operation } from "./operations";

const DIFFERENT = "The two new passwords are different.";

type Result = { __typename: string; message?: string; code?: string };

/** The new password, typed twice: nobody can see what they type. */
function NewPasswordFields() {
  return (
    <>
      <label>
        New password
        <input name="password" type="password" autoComplete="new-password" required />
      </label>
      <label>
        New password, once more
        <input name="again" type="password" autoComplete="new-password" required />
      </label>
    </>
  );
}

function useForm(work: (field: (name: string) => string) => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const element = event.currentTarget;
    const form = new FormData(element);
    const field = (name: string) => String(form.get(name) ?? "");
    setBusy(true);
    setProblem("");
    try {
      if (field("password") !== field("again")) throw new GatewayError(DIFFERENT);
      await work(field);
      element.reset();
    } catch (error) {
      setProblem(describe(error));
    }
    setBusy(false);
  }
  return { busy, problem, onSubmit: (event: FormEvent<HTMLFormElement>) => void submit(event) };
}

function Alert({ problem }: { problem: string }) {
  return problem ? (
    <p className="notice error" role="alert">
      {problem}
    </p>
  ) : null;
}

export function ChangePassword({ gateway, onChanged }: { gateway: Gateway; onChanged?: () => void }) {
  const [done, setDone] = useState(false);
  const heading = useId();
  const { busy, problem, onSubmit } = useForm(async (field) => {
    setDone(false);
    const input = { currentPassword: field("current"), newPassword: field("password") };
    const data = await gateway.request<{ changePassword: Result }>(operation("ChangePassword"), { input });
    unwrap(data.changePassword);
    setDone(true);
    onChanged?.();
  });
  return (
    <section className="panel" aria-labelledby={heading}>
      <h2 id={heading}>Password</h2>
      <form onSubmit={onSubmit} aria-label="Change password">
        <label>
          Current password
          <input name="current" type="password" autoComplete="current-password" required />
        </label>
        <NewPasswordFields />
        <Alert problem={problem} />
        {done && (
          <p className="notice" role="status">
            Your password was changed. Your other sessions have ended.
          </p>
        )}
        <div className="actions">
          <button className="primary" disabled={busy}>
            {busy ? "Changing…" : "Change password"}
          </button>
        </div>
      </form>
    </section>
  );
}

const LINK = "#set-password=";

/** The token of a one-time link that leads to the page. It is in the fragment, which no server sees. */
export const linkToken = (hash: string): string | null =>
  hash.startsWith(LINK) ? decodeURIComponent(hash.slice(LINK.length)) : null;

export function SetPassword({ token, onDone }: { token: string; onDone: (notice: string) => void }) {
  const { busy, problem, onSubmit } = useForm(async (field) => {
    const input = { token, password: field("password") };
    const data = await send<{ setPassword: Result & { username?: string } }>(operation("SetPassword"), { input });
    const { username } = unwrap(data.setPassword);
    onDone(`Your password is set. Sign in as ${username}.`);
  });
  return (
    <main className="card">
      <h1>
        <Brand />
      </h1>
      <form onSubmit={onSubmit} aria-label="Set password">
        <NewPasswordFields />
        <Alert problem={problem} />
        <button className="primary" disabled={busy}>
          {busy ? "Setting…" : "Set password"}
        </button>
      </form>
    </main>
  );
}
