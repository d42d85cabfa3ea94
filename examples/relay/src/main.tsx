import { Suspense, useCallback, useMemo, useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { RelayEnvironmentProvider } from "react-relay";
import { makeEnvironment } from "./environment";
import { History } from "./history";
import { useGeneration } from "./use-generation";

// Another gateway is named in the address of the page: ?gateway=https://ollagraph.example/graphql
const url = new URLSearchParams(location.search).get("gateway") ?? "http://127.0.0.1:8000/graphql";

function SignIn() {
  const [key, setKey] = useState("");
  const [typed, setTyped] = useState("");
  const environment = useMemo(() => makeEnvironment(url, key), [key]);

  function submit(event: FormEvent) {
    event.preventDefault();
    setKey(typed);
  }

  if (key) return <RelayEnvironmentProvider environment={environment}><Ask /></RelayEnvironmentProvider>;
  return (
    <form onSubmit={submit}>
      <label>API key <input type="password" value={typed} onChange={(event) => setTyped(event.target.value)} /></label>
      <button>Sign in</button>
    </form>
  );
}

function Ask() {
  const [model, setModel] = useState("smollm2:135m");
  const [prompt, setPrompt] = useState("Tell me a story");
  const [version, setVersion] = useState(0);
  const { text, end, running, start } = useGeneration(useCallback(() => setVersion((version) => version + 1), []));

  function submit(event: FormEvent) {
    event.preventDefault();
    start(model, prompt);
  }

  return (
    <>
      <form onSubmit={submit}>
        <label>Model <input value={model} onChange={(event) => setModel(event.target.value)} /></label>
        <label>Prompt <input value={prompt} onChange={(event) => setPrompt(event.target.value)} /></label>
        <button disabled={running}>Ask</button>
      </form>
      <pre aria-label="Answer">{text}</pre>
      <p role="status">{end}</p>
      <Suspense fallback={<p>Loading …</p>}><History version={version} /></Suspense>
    </>
  );
}

createRoot(document.getElementById("root")!).render(<SignIn />);
