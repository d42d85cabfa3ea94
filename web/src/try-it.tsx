/** A prompt and its answer, token by token: what GraphiQL, which shows one event at a time, cannot. */

import { useEffect, useState, type FormEvent, type KeyboardEvent } from "react";
import { Answer } from "./answer";
import type { Gateway } from "./gateway";
import { ModelField, ModelTrouble } from "./models";
import { Running, useUnderway } from "./running";
import { keepDraft, readDraft } from "./session";
import { useModels } from "./use-models";
import { useRun } from "./use-run";

const FIRST_PROMPT = "Why is the sky blue? Answer in three sentences.";

export function TryIt({ gateway }: { gateway: Gateway }) {
  const catalog = useModels(gateway);
  const { run, start, open, cancel } = useRun(gateway);
  const underway = useUnderway(gateway, run?.generationId, `${run?.generationId} ${run?.state}`);
  const [picked, setPicked] = useState("");
  const [prompt, setPrompt] = useState(() => readDraft() ?? FIRST_PROMPT);
  const running = run?.state === "running";
  // What was found again keeps nobody from asking something new: it goes on, in the list of what is running.
  const busy = running && !run.found;
  const { models, reload } = catalog;
  const model = models?.find(({ name }) => name === picked) ?? models?.find(({ available }) => available);
  const failed = run?.state === "failed";

  // A failed answer may be the first sign of a model server that is gone.
  useEffect(() => {
    if (failed) reload();
  }, [failed, reload]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (!busy && model?.available && prompt.trim()) start(model.name, prompt);
  }

  function submitOnEnter(event: KeyboardEvent<HTMLTextAreaElement>) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
  }

  function write(text: string) {
    setPrompt(text);
    keepDraft(text);
  }

  return (
    <>
      <form onSubmit={submit} aria-label="Try it">
        <ModelField models={models} chosen={model?.name ?? ""} choose={setPicked} />
        <label>
          Prompt
          <textarea
            rows={4}
            value={prompt}
            onChange={(event) => write(event.target.value)}
            onKeyDown={submitOnEnter}
            required
          />
        </label>
        <div className="actions">
          <button className="primary" disabled={busy || !model?.available}>
            Run
          </button>
          <button type="button" disabled={!running} onClick={() => void cancel()}>
            Stop
          </button>
          <span className="hint">Ctrl + Enter runs</span>
        </div>
      </form>
      <ModelTrouble {...catalog} />
      {run && <Answer run={run} />}
      <Running underway={underway} open={open} />
    </>
  );
}
