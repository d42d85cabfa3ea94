/** The debug view: requests, events and the state of the socket, and a way to lose the connection on purpose. */

import "./debug.css";
import { clear, useDebugLog } from "./debug-log";
import type { Gateway } from "./gateway";

const clock = (at: number): string => new Date(at).toISOString().slice(11, 23);

export function DebugView({ gateway }: { gateway: Gateway }) {
  const { entries, socket } = useDebugLog();
  return (
    <section className="panel" aria-label="Debug">
      <p>
        WebSocket: <strong data-testid="socket">{socket}</strong>
      </p>
      <div className="actions">
        <button onClick={() => gateway.sockets.terminate()}>Simulate a lost connection</button>
        <button onClick={clear}>Clear</button>
      </div>
      {entries.length === 0 && <p>Nothing was sent yet.</p>}
      <table className="log">
        <tbody>
          {entries.map(({ id, at, kind, text }) => (
            <tr key={id}>
              <td>{clock(at)}</td>
              <td>{kind}</td>
              <td>{text}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
