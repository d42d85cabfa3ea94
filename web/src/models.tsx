/** Which model to ask, and what to read where one cannot be asked. */

import type { Backend, Model } from "./use-models";

export function ModelField({
  models,
  chosen,
  choose,
}: {
  models?: Model[];
  chosen: string;
  choose: (name: string) => void;
}) {
  return (
    <label>
      Model
      <select value={chosen} onChange={(event) => choose(event.target.value)} disabled={!models?.length}>
        {!chosen && <option value="">{models ? "No model can be reached" : "Loading the models…"}</option>}
        {models?.map(({ name, available }) => (
          <option key={name} value={name} disabled={!available}>
            {available ? name : `${name} (not reachable)`}
          </option>
        ))}
      </select>
    </label>
  );
}

type Trouble = { models?: Model[]; backends?: Backend[]; problem: string; busy: boolean; reload: () => void };

/** Says what is missing and why. The page looks again by itself; the button is for who does not want to wait. */
export function ModelTrouble({ models, backends, problem, busy, reload }: Trouble) {
  const silent = problem ? [] : (backends ?? []).filter(({ ready }) => !ready);
  const resting = problem ? [] : (backends ?? []).filter((it) => it.ready && it.breaker !== "CLOSED");
  const missing = models?.length === 0 && !silent.length && !problem;
  if (!problem && !silent.length && !resting.length && !missing) return null;
  return (
    <div className={problem ? "notice error" : "notice"} role={problem ? "alert" : "status"}>
      {problem && <p>{problem}</p>}
      {silent.map(({ name, error }) => (
        <p key={name}>
          <strong>{name}</strong> does not answer: {error}
        </p>
      ))}
      {resting.map(({ name, breaker }) => (
        <p key={name}>
          <strong>{name}</strong> failed at several answers in a row and{" "}
          {breaker === "OPEN" ? "is left alone for a while." : "is tried again with the next prompt."}
        </p>
      ))}
      {missing && (
        <p>
          {backends?.length === 0
            ? "This gateway has no model server. Its administrator can name one in the settings."
            : "There is no model yet. Add one to a model server of this gateway."}
        </p>
      )}
      <p className="again">
        <span>This page tries again by itself.</span>
        {/* Not disabled while it works: that would take the keyboard's focus away. */}
        <button type="button" aria-disabled={busy} onClick={() => busy || reload()}>
          {busy ? "Trying…" : "Try again"}
        </button>
      </p>
    </div>
  );
}
