/** What a version takes, as it was measured. Bytes are of the worker that holds it. */
export interface Footprint {
  readonly model: string;
  readonly version: number;
  readonly task: string;
  readonly policy: string;
  /** Weights and session. */
  readonly loadedBytes: number;
  /** The most that the worker had while it loaded, beyond what it kept. */
  readonly loadingBytes: number;
  /** By batch, ascending; of a language model one text at a time. */
  readonly runs: readonly RunFootprint[];
  /** Of a language model. */
  readonly text: TextFootprint | null;
}

export interface RunFootprint {
  readonly batch: number;
  /** The most that the worker had beyond what is loaded. */
  readonly bytes: number;
  /** Median of the run (of a language model: of a token), in a worker that does nothing else. */
  readonly ms: number;
}

export interface TextFootprint {
  /** Tokens of a prompt and its text together. */
  readonly context: number;
  /** Texts at a time. */
  readonly rows: number;
  /** Keys and values of one text over the whole context, and of all. Memory is taken as it is touched. */
  readonly rowBytes: number;
  readonly cacheBytes: number;
  /** One text at a time. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

/** What a server that has all of them loaded takes. */
export interface CapacityEstimate {
  /** Node, the runtime, and what malloc keeps for messages: {@link serverBytes}. */
  readonly serverBytes: number;
  /** Weights and sessions of all versions on all workers. */
  readonly modelBytes: number;
  /** What their largest runs keep. */
  readonly runBytes: number;
  /** Caches of all texts, full. */
  readonly cacheBytes: number;
  /** What the largest load takes for a moment. */
  readonly loadingBytes: number;
  /** Of requests that may be held at a time, by the limit. */
  readonly heldBytes: number;
  /** Under load that does not come near the limits. */
  readonly steadyBytes: number;
  /** What cannot be exceeded but by the weights of versions that come later. */
  readonly limitBytes: number;
}

/** What a server holds beside its models under load (docs/operations.md, "Memory": `npm run bench:soak`). */
export const serverBytes = 200 * 2 ** 20;

export interface CapacitySettings {
  /** Workers that each version is loaded on. A language model is on one. */
  readonly instances: number;
  /** Bytes of requests that may be held. */
  readonly heldBytes: number;
}

/** Adds up what was measured version by version. */
export function estimateCapacity(
  footprints: readonly Footprint[],
  { instances, heldBytes }: CapacitySettings,
): CapacityEstimate {
  const copies = ({ text }: Footprint): number => (text === null ? instances : 1);
  const sum = (bytes: (footprint: Footprint) => number): number =>
    footprints.reduce((total, footprint) => total + bytes(footprint), 0);
  const modelBytes = sum((each) => copies(each) * each.loadedBytes);
  // Each session has an arena of its own, which keeps the most that a run of it took.
  const runBytes = sum((each) => copies(each) * Math.max(0, ...each.runs.map(({ bytes }) => bytes)));
  const cacheBytes = sum(({ text }) => text?.cacheBytes ?? 0);
  const loadingBytes = Math.max(0, ...footprints.map((each) => each.loadingBytes));
  const steadyBytes = serverBytes + modelBytes + runBytes + cacheBytes;
  const limitBytes = steadyBytes + loadingBytes + heldBytes;
  return { serverBytes, modelBytes, runBytes, cacheBytes, loadingBytes, heldBytes, steadyBytes, limitBytes };
}
