import { join } from 'node:path';
import type { HeartwoodError } from '../../../libs/errors/error.js';
import { pieceNames } from '../../../libs/pruning/ladder/ladder-graph.js';
import { chooseRung } from '../../../libs/pruning/ladder/rung.js';
import { checkRun } from '../../../libs/runtime/check-run.js';
import { type ProviderName, providers } from '../../../libs/runtime/providers/index.js';
import type { ResidentMemory } from '../../../libs/runtime/resident.js';
import type { Feeds, Into, LateRun, RunOptions, Runtime, Session, TimedRun } from '../../../libs/runtime/runtime.js';
import { elementCount, type TensorInfo, type TensorValue } from '../../../libs/runtime/tensor.js';
import type { ImageManifest } from '../../../libs/store/manifest.js';
import type { LadderPart } from '../../../libs/store/ladder-part.js';
import { internal } from '../../../libs/errors/error.js';
import { BUDGET, LOGITS, PIXELS, TOKENS_KEPT } from './tensor-names.js';

type Tensors = Readonly<Record<string, TensorValue>>;
type Turn = Pick<RunOptions, 'signal' | 'priority'>;

interface LadderStage {
  readonly merge: Session;
  /** By count. */
  readonly trunks: ReadonlyMap<number, Session>;
}

/** What has begun goes on before anything begins. */
const goingOn: Turn = { priority: () => 0 };

/**
 * A pruned classifier as the pieces of its ladder: to whoever runs it a session like that of its whole graph. Samples run one by one; after each piece
 * that ends at a stage the lowest rung is taken that keeps at least what the stage decided, so it never loses more than was asked for.
 */
export class LadderSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly broken: Promise<HeartwoodError>;

  constructor(
    private readonly counts: readonly number[],
    private readonly prefix: Session,
    private readonly stages: readonly LadderStage[],
  ) {
    const batched = ({ shape, ...info }: TensorInfo): TensorInfo => ({ ...info, shape: ['B', ...shape.slice(1)] });
    this.inputs = prefix.inputs.map(batched);
    const last = stages.at(-1)!.trunks.get(counts[0]!)!;
    this.outputs = [
      batched(last.outputs.find(({ name }) => name === LOGITS)!),
      { name: TOKENS_KEPT, type: 'int32', shape: ['B', stages.length] },
    ];
    this.broken = Promise.race(this.#pieces().map((piece) => piece.broken));
  }

  get instances(): number {
    return this.prefix.instances;
  }

  /** The CPU if any piece fell back to it. */
  get provider(): ProviderName {
    const { provider } = this.prefix;
    return this.#weighty().every((piece) => piece.provider === provider) ? provider : 'cpu';
  }

  async run(feeds: Feeds, options?: RunOptions): Promise<Record<string, TensorValue>> {
    return (await this.runTimed(feeds, options)).outputs;
  }

  runTimed(feeds: Feeds, options: RunOptions = {}): Promise<TimedRun> {
    return this.runLate(() => ({ feeds, ...options }), options);
  }

  async runLate(make: () => LateRun, options: Turn = {}): Promise<TimedRun> {
    let made: LateRun | undefined;
    const begin = (): LateRun => {
      made ??= make();
      checkRun(this, made);
      return prefixRun(made.feeds, 0);
    };
    const first = await this.prefix.runLate(begin, options);
    const { feeds, outputs: wanted } = made!;
    const batch = (feeds[this.inputs[0]!.name] as TensorValue).dims[0]!;
    const climbs = [await this.#climb(first, feeds, 0)];
    for (let sample = 1; sample < batch; sample++) {
      const begun = await this.prefix.runLate(() => prefixRun(feeds, sample), goingOn);
      climbs.push(await this.#climb(begun, feeds, sample));
    }
    const answered = joined(climbs);
    const names = wanted ?? Object.keys(answered);
    return {
      outputs: Object.fromEntries(names.map((name) => [name, answered[name]!])),
      durationMs: climbs.reduce((sum, { durationMs }) => sum + durationMs, 0),
      queuedMs: first.queuedMs,
    };
  }

  /** Runs every piece once on made-up tokens, so that none is built while a request waits for it. */
  async warmUp(): Promise<void> {
    for (const piece of this.#weighty()) {
      const feeds = piece.inputs.map(({ name, shape }) => {
        const dims = shape.map(Number);
        // A pattern without meaning, and masses of 1.
        const value = (_: unknown, at: number) => (name === pieceNames.mass ? 1 : name === BUDGET ? 0 : Math.sin(at));
        return [
          name,
          { type: 'float32', dims, data: Float32Array.from({ length: elementCount(dims) }, value) },
        ] as const;
      });
      const runs = Array.from({ length: piece.instances }, () => piece.run(Object.fromEntries(feeds)));
      await Promise.all(runs);
    }
  }

  allocate(): Promise<ResidentMemory> {
    throw internal('a ladder keeps nothing between runs');
  }

  check(feeds: Feeds, outputs?: readonly string[], into?: Into): void {
    checkRun(this, { feeds, ...(outputs ? { outputs } : {}), ...(into ? { into } : {}) });
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#pieces().map((piece) => piece.dispose()));
  }

  async #climb(begun: TimedRun, feeds: Feeds, sample: number): Promise<Climb> {
    const budget = rowOf(feeds[BUDGET] as TensorValue, sample);
    let { outputs, durationMs } = begun;
    const all = this.counts[0]!;
    let mass: TensorValue = { type: 'float32', dims: [1, 1, all], data: new Float32Array(all).fill(1) };
    const kept: number[] = [];
    for (const { merge, trunks } of this.stages) {
      const before = mass.dims[2]!;
      const { count, merges } = chooseRung(this.counts, before, outputs);
      let tokens = outputs[pieceNames.undecided]!;
      if (count < before) {
        const merged = await merge.runTimed({ ...merges, tokens, mass }, goingOn);
        durationMs += merged.durationMs;
        tokens = merged.outputs[pieceNames.mergedTokens]!;
        mass = merged.outputs[pieceNames.mergedMass]!;
      }
      kept.push(count);
      const trunk = trunks.get(count)!;
      const takesBudget = trunk.inputs.some(({ name }) => name === BUDGET);
      const run = await trunk.runTimed({ tokens, mass, ...(takesBudget ? { budget } : {}) }, goingOn);
      durationMs += run.durationMs;
      outputs = run.outputs;
    }
    return { logits: outputs[LOGITS]!, kept, durationMs };
  }

  /** Those that the provider is for: merges have shapes of any size, and are the CPU's. */
  #weighty(): Session[] {
    return [this.prefix, ...this.stages.flatMap(({ trunks }) => [...trunks.values()])];
  }

  #pieces(): Session[] {
    return [...this.#weighty(), ...this.stages.map(({ merge }) => merge)];
  }
}

/** Of one sample. */
interface Climb {
  readonly logits: TensorValue;
  readonly kept: readonly number[];
  readonly durationMs: number;
}

function prefixRun(feeds: Feeds, sample: number): LateRun {
  const own = { [PIXELS]: feeds[PIXELS] as TensorValue, [BUDGET]: feeds[BUDGET] as TensorValue };
  return { feeds: Object.fromEntries(Object.entries(own).map(([name, value]) => [name, rowOf(value, sample)])) };
}

function rowOf({ type, dims, data }: TensorValue, row: number): TensorValue {
  const size = elementCount(dims.slice(1));
  const part = (data as Float32Array).subarray(row * size, (row + 1) * size);
  return { type, dims: [1, ...dims.slice(1)], data: part };
}

function joined(climbs: readonly Climb[]): Tensors {
  const classes = climbs[0]!.logits.dims[1]!;
  const logits = new Float32Array(climbs.length * classes);
  for (const [at, climb] of climbs.entries()) logits.set(climb.logits.data as Float32Array, at * classes);
  const kept = climbs.flatMap((climb) => climb.kept);
  return {
    [LOGITS]: { type: 'float32', dims: [climbs.length, classes], data: logits },
    [TOKENS_KEPT]: { type: 'int32', dims: [climbs.length, climbs[0]!.kept.length], data: Int32Array.from(kept) },
  };
}

/** Loads the pieces of a ladder from the folder of their version. Throws as `Runtime.load`. */
export async function loadLadder(
  runtime: Runtime,
  directory: string,
  { counts, prefix, stages }: LadderPart,
  instances: number,
): Promise<LadderSession> {
  const loaded: Session[] = [];
  const load = async (file: string, cpu = false): Promise<Session> => {
    const session = await runtime.load(join(directory, file), { instances, ...(cpu ? { provider: 'cpu' } : {}) });
    loaded.push(session);
    return session;
  };
  try {
    const first = await load(prefix.file);
    const climbed: LadderStage[] = [];
    for (const { merge, trunks } of stages) {
      const byCount = new Map<number, Session>();
      for (const [at, { file }] of trunks.entries()) byCount.set(counts[at]!, await load(file));
      climbed.push({ merge: await load(merge.file, true), trunks: byCount });
    }
    return new LadderSession(counts, first, climbed);
  } catch (thrown) {
    await Promise.all(loaded.map((session) => session.dispose()));
    throw thrown;
  }
}

/** When versions that have a ladder are served by it: where the provider wants fixed shapes, always, or never. */
export const ladderUses = ['auto', 'on', 'off'] as const;
export type LadderUse = (typeof ladderUses)[number];

/** The ladder that a version is to be served by, if any. */
export function ladderOf(
  use: LadderUse,
  { provider }: Pick<Runtime, 'provider'>,
  { ladder }: Pick<ImageManifest, 'ladder'>,
): LadderPart | undefined {
  const wanted = use === 'on' || (use === 'auto' && providers[provider].cannot.dynamicShapes !== undefined);
  return wanted ? ladder : undefined;
}
