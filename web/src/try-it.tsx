/** A prompt and its answer, token by token: what GraphiQL, which shows one event at a time, cannot. */

import { useEffect, useRef, useState, type FormEvent, type KeyboardEvent } from "react";
import { describe, type Gateway, type StreamHandlers } from "./gateway";
import { operation } from "./operations";
import { apply, begin, fail, stop, tokensPerSecond, type Run } from "./run";
import { Running, type Underway } from "./running";
import { dropWatched, keepDraft, keepWatched, readDraft, readWatched } from "./session";

type Model = { name: string; capabilities: string[] | null };

const FIRST_PROMPT = "Why is the sky blue? Answer in three sentences.";

/** A backend that does not tell what a model can do leaves it to be tried. */
const answers = ({ capabilities }: Model): boolean => capabilities?.includes("COMPLETION") ?? true;

/** The models that can be asked; undefined until they are known. */
function useModels(gateway: Gateway) {
  const [models, setModels] = useState<Model[]>();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    gateway.request<{ models: Model[] }>(operation("Models")).then(
      (data) => setModels(data.models.filter(answers)),
      (error: unknown) => setProblem(describe(error)),
    );
  }, [gateway]);
  return { models, problem };
}

/** One generation at a time. The answer is painted once a frame, however fast the tokens come. */
function useRun(gateway: Gateway) {
  const [shown, setShown] = useState<Run>();
  const latest = useRef<Run>(undefined);
  const frame = useRef(0);
  const unsubscribe = useRef<() => void>(undefined);
  const cameBackAt = useRef(-1);

  function paint() {
    cancelAnimationFrame(frame.current);
    frame.current = 0;
    setShown(latest.current);
  }

  function update(change: (run: Run, now: number) => Run) {
    if (!latest.current) return;
    latest.current = change(latest.current, performance.now());
    if (latest.current.state !== "running") paint();
    else if (!frame.current) frame.current = requestAnimationFrame(paint);
  }

  const handlers: StreamHandlers = {
    next(event) {
      keepWatched(event.generationId);
      update((run, now) => apply(run, event, now));
      if (latest.current?.state !== "running") dropWatched();
    },
    failed: (message) => comeBack(message),
    ended: () => comeBack("The stream ended before the answer did."),
  };

  /** A stream that broke goes on behind the last event seen, once for each event; else the reason is told. */
  function comeBack(reason: string) {
    const run = latest.current;
    if (run?.state !== "running") return;
    if (!run.generationId || cameBackAt.current === run.sequence) return update((run, now) => fail(run, reason, now));
    cameBackAt.current = run.sequence;
    unsubscribe.current = gateway.watch(run.generationId, run.sequence, handlers);
  }

  function show(subscribe: () => () => void) {
    unsubscribe.current?.();
    cameBackAt.current = -1;
    latest.current = begin(performance.now());
    paint();
    unsubscribe.current = subscribe();
  }

  const start = (model: string, prompt: string) => show(() => gateway.stream({ model, prompt }, handlers));
  const open = (id: string) => show(() => gateway.watch(id, 0, handlers));

  /** Asks the gateway to stop, and goes on listening: the last event tells what was used. */
  async function cancel() {
    const id = latest.current?.generationId;
    try {
      if (!id) throw new Error("nothing has started yet");
      await gateway.request(operation("CancelGeneration"), { id });
    } catch {
      update(stop);
      unsubscribe.current?.();
    }
  }

  useEffect(
    () => () => {
      cancelAnimationFrame(frame.current);
      unsubscribe.current?.();
    },
    [],
  );
  return { run: shown, start, open, cancel };
}

export function TryIt({ gateway }: { gateway: Gateway }) {
  const { models, problem } = useModels(gateway);
  const { run, start, open, cancel } = useRun(gateway);
  const [underway, setUnderway] = useState<Underway[]>([]);
  const [model, setModel] = useState("");
  const [prompt, setPrompt] = useState(() => readDraft() ?? FIRST_PROMPT);
  const running = run?.state === "running";
  const chosen = model || models?.[0]?.name || "";

  useEffect(() => {
    gateway.request<{ generations: { nodes: Underway[] } }>(operation("Running")).then(
      ({ generations: { nodes } }) => {
        setUnderway(nodes);
        const watched = readWatched();
        if (nodes.some(({ id }) => id === watched)) open(watched!);
      },
      () => undefined, // the list of models tells what is wrong
    );
    // `open` is another function each time; once for each gateway is enough
  }, [gateway]);

  function submit(event: FormEvent) {
    event.preventDefault();
    if (!running && chosen && prompt.trim()) start(chosen, prompt);
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
        <label>
          Model
          <select value={chosen} onChange={(event) => setModel(event.target.value)} disabled={!models?.length}>
            {models?.map(({ name }) => <option key={name}>{name}</option>)}
          </select>
        </label>
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
          <button className="primary" disabled={running || !chosen}>
            Run
          </button>
          <button type="button" disabled={!running} onClick={() => void cancel()}>
            Stop
          </button>
          <span className="hint">Ctrl + Enter runs</span>
        </div>
      </form>
      {problem && (
        <p className="notice error" role="alert">
          {problem}
        </p>
      )}
      {models?.length === 0 && (
        <p className="notice" role="status">
          There is no model yet. Add one to a model server of this gateway, then reload the page.
        </p>
      )}
      {run && <Answer run={run} />}
      <Running
        underway={underway.filter(({ id }) => id !== run?.generationId)}
        open={(id) => {
          setUnderway(underway.filter((one) => one.id !== id));
          open(id);
        }}
      />
    </>
  );
}

function Answer({ run }: { run: Run }) {
  return (
    <section className="answer" aria-label="Answer">
      {run.thinking && (
        <details open={!run.text}>
          <summary>Thinking</summary>
          <p className="text">{run.thinking}</p>
        </details>
      )}
      {/* aria-busy: a screen reader reads the whole answer once, not each token. */}
      <output className="text" aria-live="polite" aria-busy={run.state === "running"} data-testid="answer">
        {run.text}
        {run.state === "running" && <span className="caret" aria-hidden="true" />}
      </output>
      {run.error && (
        <p className="notice error" role="alert">
          {run.error}
        </p>
      )}
      <p className="facts" role="status" data-testid="facts">
        {facts(run).join(" · ")}
      </p>
    </section>
  );
}

const count = (n: number, what: string): string => `${n.toLocaleString()} ${what}${n === 1 ? "" : "s"}`;

const ENDINGS: Record<string, string> = {
  LENGTH: "Cut off at the length limit",
  TOOL_CALLS: "Finished, asking for tools",
  CONTENT_FILTER: "Withheld by the model server",
  CANCELLED: "Stopped",
};

/** The line below the answer: where the run stands, and at the end what it used. */
function facts(run: Run): string[] {
  if (run.state === "running") {
    if (run.position) return [`Waiting: number ${run.position} in the queue`];
    return [run.firstTokenAt === undefined ? "Waiting for the first token" : "Running"];
  }
  const line: string[] = [];
  if (run.state === "completed") line.push(ENDINGS[run.finishReason ?? ""] ?? "Finished");
  else line.push(run.state === "stopped" ? "Stopped" : "Failed");
  if (run.usage) {
    line.push(count(run.usage.promptTokens, "prompt token"), count(run.usage.completionTokens, "completion token"));
  }
  const speed = tokensPerSecond(run);
  if (speed !== undefined) line.push(`${speed.toFixed(1)} tokens/s`);
  if (run.firstTokenAt !== undefined) {
    line.push(`first token in ${((run.firstTokenAt - run.startedAt) / 1000).toFixed(2)} s`);
  }
  return line;
}
