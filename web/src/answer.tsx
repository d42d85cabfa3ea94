/** An answer, and the line below it: where it stands, and at the end what it used. */

import type { Run, Timings } from "./run";

export function Answer({ run }: { run: Run }) {
  return (
    <section className="answer" aria-label="Answer">
      {run.thinking && (
        <details open={!run.text}>
          <summary>Thinking</summary>
          <p className="text">{run.thinking}</p>
        </details>
      )}
      {/* aria-busy: a screen reader reads the whole answer once, not each token. */}
      <output
        className="text"
        aria-live="polite"
        aria-busy={run.state === "running"}
        hidden={run.state === "gone" && !run.text}
        data-testid="answer"
      >
        {run.text}
        {run.state === "running" && <span className="caret" aria-hidden="true" />}
      </output>
      {run.error && (
        <p className={run.state === "gone" ? "notice" : "notice error"} role="alert">
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
const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)}\u00a0s`;

const ENDINGS: Record<string, string> = {
  LENGTH: "Cut off at the length limit",
  TOOL_CALLS: "Finished, asking for tools",
  CONTENT_FILTER: "Withheld by the model server",
};

const STATES = { failed: "Failed", stopped: "Stopped", gone: "This answer can no longer be watched" } as const;

function facts(run: Run): string[] {
  if (run.state === "running") {
    if (run.position) return [`Waiting: number ${run.position} in the queue`];
    if (run.loading && !run.text && !run.thinking) return ["The model server is loading the model"];
    return [run.text || run.thinking ? "Running" : "Waiting for the first token"];
  }
  const line = [run.state === "completed" ? (ENDINGS[run.finishReason ?? ""] ?? "Finished") : STATES[run.state]];
  if (run.usage) {
    line.push(count(run.usage.promptTokens, "prompt token"), count(run.usage.completionTokens, "completion token"));
  }
  return run.timings ? [...line, ...durations(run.timings)] : line;
}

/** What the gateway measured, as far as it came to that. */
function durations({ tokensPerSecond, timeToFirstTokenMs, totalMs }: Timings): string[] {
  const line: string[] = [];
  if (tokensPerSecond !== null) line.push(`${tokensPerSecond.toFixed(1)} tokens/s`);
  if (timeToFirstTokenMs !== null) line.push(`first token in ${seconds(timeToFirstTokenMs)}`);
  if (totalMs !== null) line.push(`${seconds(totalMs)} in all`);
  return line;
}
