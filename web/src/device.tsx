/** Approving a program that shows a code (RFC 8628): who asks, from where, and whether the codes are the same. */

import { useId, useState, type FormEvent } from "react";
import { describe, unwrap, type Gateway } from "./gateway";
import { operation } from "./operations";

const LINK = /^#device(?:=([A-Za-z-]{1,32}))?$/;

type Result = { __typename: string; message?: string; code?: string };
type Request = { userCode: string; clientName: string; address: string; requestedAt: string };
type Decision = "approve" | "deny";

/** The code in the address of the page, "" where there is none; null for another view. */
export function deviceCode(hash: string): string | null {
  const found = LINK.exec(hash);
  return found && (found[1] ?? "");
}

/** A code from a link is filled in and no more: whoever sent the link may be the one who waits for the approval. */
export function DeviceView({ gateway, code }: { gateway: Gateway; code: string }) {
  const [request, setRequest] = useState<Request>();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const [done, setDone] = useState("");
  const heading = useId();

  async function attempt(work: () => Promise<void>) {
    setBusy(true);
    setProblem("");
    try {
      await work();
    } catch (error) {
      setRequest(undefined);
      setProblem(describe(error));
    }
    setBusy(false);
  }

  function find(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const userCode = String(new FormData(event.currentTarget).get("code") ?? "");
    void attempt(async () => {
      const data = await gateway.request<{ deviceSignInRequest: Result & { request?: Request } }>(
        operation("DeviceSignInRequest"),
        { userCode },
      );
      setRequest(unwrap(data.deviceSignInRequest).request);
    });
  }

  function decide(decision: Decision, { userCode, clientName }: Request) {
    void attempt(async () => {
      const name = decision === "approve" ? "ApproveDevice" : "DenyDevice";
      const data = await gateway.request<Record<string, Result>>(operation(name), { userCode });
      Object.values(data).forEach(unwrap);
      setRequest(undefined);
      setDone(
        decision === "approve"
          ? `${clientName} is signed in as you in a few seconds. You can close this page, and end the session under Account.`
          : `${clientName} was denied.`,
      );
    });
  }

  return (
    <section className="panel" aria-labelledby={heading}>
      <h2 id={heading}>Approve a device</h2>
      {done ? (
        <p className="notice" role="status">
          {done}
        </p>
      ) : request ? (
        <Asked request={request} busy={busy} decide={(decision) => decide(decision, request)} />
      ) : (
        <form onSubmit={find} aria-label="Code of the device">
          <label>
            Code that the device shows
            <input name="code" defaultValue={code} autoComplete="off" autoCapitalize="characters" spellCheck={false} required />
          </label>
          <div className="actions">
            <button className="primary" disabled={busy}>
              Continue
            </button>
          </div>
        </form>
      )}
      {problem && (
        <p className="notice error" role="alert">
          {problem}
        </p>
      )}
    </section>
  );
}

function Asked({ request, busy, decide }: { request: Request; busy: boolean; decide: (decision: Decision) => void }) {
  return (
    <>
      <p>
        <strong>{request.clientName}</strong> wants to sign in as you. It asked from the address{" "}
        <strong>{request.address}</strong> on {new Date(request.requestedAt).toLocaleString()}. The name is what it calls
        itself.
      </p>
      <p className="secret">
        <code>{request.userCode}</code>
      </p>
      <p>
        Approve it only if you have started it yourself, and <strong>its screen shows this code now</strong>. If somebody
        sent you this code or a link, deny it: they would be signed in as you.
      </p>
      <div className="actions">
        <button className="primary" disabled={busy} onClick={() => decide("approve")}>
          The codes are the same: approve
        </button>
        <button disabled={busy} onClick={() => decide("deny")}>
          Deny
        </button>
      </div>
    </>
  );
}
