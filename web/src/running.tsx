/** What is under way and not watched here: a reloaded page, or another one, finds its answers again. */

export type Underway = { id: string; modelName: string; state: string; createdAt: string };

export function Running({ underway, open }: { underway: Underway[]; open: (id: string) => void }) {
  if (!underway.length) return null;
  return (
    <section className="running" aria-label="Running">
      <h2>Running</h2>
      <ul>
        {underway.map(({ id, modelName, state, createdAt }) => (
          <li key={id}>
            <button type="button" onClick={() => open(id)}>
              Watch {modelName}
            </button>{" "}
            <span className="hint">
              {state === "QUEUED" ? "waiting" : "running"}, asked for at {new Date(createdAt).toLocaleTimeString()}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
