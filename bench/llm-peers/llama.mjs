// A process of its own that runs llama.cpp by node-llama-cpp, on the CPU, and answers lines of JSON: what bench/llm-peers.ts compares with.
//   { "model": FILE, "threads": N, "context": N, "batch": N } → { "loaded": true }
//   { "prompt": [ids], "tokens": N } → { "prefillMs", "decodeMs", "ids": [generated, greedy] }
import { createInterface } from 'node:readline';
import { getLlama } from 'node-llama-cpp';

const llama = await getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  logLevel: 'error',
  usePrebuiltBinaries: true,
});
let model;
let context;
let sequence;

async function load({ model: modelPath, threads, context: contextSize, batch }) {
  await model?.dispose();
  model = await llama.loadModel({ modelPath, gpuLayers: 0, useMmap: true });
  context = await model.createContext({ contextSize, batchSize: batch, threads, sequences: 1 });
  sequence = context.getSequence();
  return { loaded: true };
}

async function run({ prompt, tokens }) {
  await sequence.clearHistory();
  // The last token of the prompt is the first that is decoded with: all before it is the prefill.
  let began = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1));
  const prefillMs = performance.now() - began;
  const ids = [];
  began = performance.now();
  for await (const id of sequence.evaluate(prompt.slice(-1), { temperature: 0, yieldEogToken: true })) {
    ids.push(id);
    if (ids.length === tokens) break;
  }
  return { prefillMs, decodeMs: performance.now() - began, ids };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = await (request.model === undefined ? run(request) : load(request)).catch((error) => ({
    error: String(error),
  }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
