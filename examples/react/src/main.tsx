import { useState, type FormEvent } from "react";
import { createRoot } from "react-dom/client";
import { useGeneration } from "./use-generation";

// Another gateway is named in the address of the page: ?gateway=https://ollagraph.example/graphql
const url = new URLSearchParams(location.search).get("gateway") ?? "http://127.0.0.1:8000/graphql";

function App() {
  const [key, setKey] = useState(() => sessionStorage.getItem("key") ?? "");
  const [model, setModel] = useState("smollm2:135m");
  const [prompt, setPrompt] = useState("Tell me a story");
  const [problem, setProblem] = useState("");
  const { text, end, running, start, cancel } = useGeneration({ url, key });

  function submit(event: FormEvent) {
    event.preventDefault();
    sessionStorage.setItem("key", key);
    setProblem("");
    start(model, prompt).catch((error: Error) => setProblem(error.message));
  }

  return (
    <form onSubmit={submit}>
      <label>API key <input type="password" value={key} onChange={(event) => setKey(event.target.value)} /></label>
      <label>Model <input value={model} onChange={(event) => setModel(event.target.value)} /></label>
      <label>Prompt <input value={prompt} onChange={(event) => setPrompt(event.target.value)} /></label>
      <button disabled={running}>Ask</button>
      <button type="button" disabled={!running} onClick={() => void cancel()}>Cancel</button>
      <pre aria-label="Answer">{text}</pre>
      <p role="status">{problem || end}</p>
    </form>
  );
}

createRoot(document.getElementById("root")!).render(<App />);
