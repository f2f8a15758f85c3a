/** A measurement's sum over samples, taken shard by shard: here, or by whoever else has hands. */

/** What the work on a shard is watched by. */
export interface ShardWatch {
  readonly signal?: AbortSignal | undefined;
  /** Samples of the shard that are done; a fraction where one takes several runs. */
  readonly progress?: ((done: number) => void) | undefined;
}

/** A measurement with what all its shards need (graph, session, data) in place. */
export interface OpenMeasurement<Part> {
  /**
   * What these samples come to: plain data that can be kept. It depends on the samples, and on what the measurement was opened with,
   * alone: not on other shards, nor on who measures. Throws CANCELLED.
   */
  measure(indices: readonly number[], watch: ShardWatch): Promise<Part>;
  dispose(): Promise<void>;
}

/** A measurement in words, to be taken by another process that has the same model and data. */
export interface ShardedRequest {
  /** Its name in the table of `measurements`. */
  readonly measurement: string;
  /** All that it is opened with; JSON. */
  readonly options: unknown;
  /** The samples of each shard. */
  readonly shards: readonly (readonly number[])[];
}

/** Takes a shard in this process. `at` is its place among the shards. */
export type TakeHere = (at: number, watch: ShardWatch) => Promise<unknown>;

/** Where and in what pieces sums over samples are taken. */
export interface Sharing {
  /** Samples of a shard, rounded up to whole runs; by default so many that it is some runs of the runtime. */
  readonly samples?: number | undefined;
  /** Has all shards taken and gives their parts in order, each exactly as it was measured. By default one after the other, here. */
  readonly run?: ((request: ShardedRequest, here: TakeHere, watch: ShardWatch) => AsyncIterable<unknown>) | undefined;
}

/** Tokens of a shard unless told: some runs, so that what is lost with one is little, and opening it is a small part of it. */
const shardTokens = 4096;

/**
 * Samples of a shard, a multiple of the batch: so runs hold the same samples however many take part. The partition depends on the model and
 * the request alone, since sums are taken shard by shard: another partition would round in another way.
 */
export function shardSize(tokens: number, batch: number, asked?: number): number {
  return (
    batch * Math.max(1, asked === undefined ? Math.round(shardTokens / (tokens * batch)) : Math.ceil(asked / batch))
  );
}

/** What a measurement is to be taken of, and how. */
export interface Measuring<Part> {
  readonly measurement: string;
  readonly options: unknown;
  readonly indices: readonly number[];
  /** Samples of a run, and tokens of a sample. */
  readonly batch: number;
  readonly tokens: number;
  /** Called once, when the first shard is taken here. */
  open(): Promise<OpenMeasurement<Part>>;
}

export interface ShardsContext extends ShardWatch {
  readonly shards?: Sharing | undefined;
}

/** The parts of a measurement, in the order of the shards whoever takes them, with the place of each one's first sample. */
export async function* measureInShards<Part>(
  { measurement, options, indices, batch, tokens, open }: Measuring<Part>,
  { shards: { samples, run = oneByOne } = {}, signal, progress }: ShardsContext,
): AsyncGenerator<{ readonly start: number; readonly part: Part }> {
  const size = shardSize(tokens, batch, samples);
  const shards: number[][] = [];
  for (let from = 0; from < indices.length; from += size) shards.push(indices.slice(from, from + size));
  let opened: Promise<OpenMeasurement<Part>> | undefined;
  const here: TakeHere = async (at, watch) => (await (opened ??= open())).measure(shards[at]!, watch);
  try {
    let at = 0;
    for await (const part of run({ measurement, options, shards }, here, { signal, progress })) {
      yield { start: at++ * size, part: part as Part };
    }
  } finally {
    await opened?.then(
      (measurement) => measurement.dispose(),
      () => undefined,
    );
  }
}

async function* oneByOne(
  { shards }: ShardedRequest,
  here: TakeHere,
  { signal, progress }: ShardWatch,
): AsyncGenerator<unknown> {
  let done = 0;
  for (const [at, { length }] of shards.entries()) {
    yield await here(at, { signal, progress: (part) => progress?.(done + part) });
    done += length;
  }
}
