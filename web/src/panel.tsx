/** What the sections of the account view have in common: a box with a heading, one action at a time, and moments. */

import { useId, useState, type ReactNode } from "react";
import { describe } from "./gateway";

export type Result = { __typename: string; message?: string; code?: string };

/** Sends a mutation of one result, and loads again what it may have changed. */
export type Change = <R extends Result>(name: string, variables: object) => Promise<R>;

export const moment = (text: string): string =>
  new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Runs what a button does, once at a time, and says what went wrong; `first` is what went wrong before. */
export function useAction(first = "") {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(first);
  const run = (work: () => Promise<unknown>) => {
    if (busy) return;
    setBusy(true);
    setProblem("");
    work()
      .catch((error: unknown) => setProblem(describe(error)))
      .finally(() => setBusy(false));
  };
  return { busy, problem, run };
}

export function Panel({ title, problem, children }: { title: string; problem: string; children: ReactNode }) {
  const heading = useId();
  return (
    <section className="panel" aria-labelledby={heading}>
      <h2 id={heading}>{title}</h2>
      {problem && (
        <p className="notice error" role="alert">
          {problem}
        </p>
      )}
      {children}
    </section>
  );
}
