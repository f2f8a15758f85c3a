import { join } from 'node:path';
import type { Runtime, Session } from '../../../libs/runtime/runtime.js';
import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import { type ImageManifest, imageManifest } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { VersionEntry } from '../../../libs/store/snapshot.js';
import { BatchingScheduler } from '../scheduling/batching.js';
import type { Scheduler } from '../scheduling/scheduler.js';
import type { SchedulingSettings } from '../scheduling/settings.js';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { BUDGET, TOKENS_KEPT } from './tensor-names.js';
import { warmUp, type WarmUpSettings } from './warm-up.js';

export { BUDGET, IMAGE, LOGITS, PIXELS, TOKENS_KEPT } from './tensor-names.js';

/** A loaded version. Requests hold it while they are worked on; it is disposed when it is retired and the last one has ended. */
export class ServedVersion {
  #active = 0;
  #idle: (() => void) | undefined;

  constructor(
    readonly manifest: ImageManifest,
    readonly scheduler: Scheduler,
    private readonly session: Session,
  ) {}

  get model(): string {
    return this.manifest.model;
  }

  get version(): number {
    return this.manifest.version;
  }

  /** Runs of it that go side by side at most. */
  get instances(): number {
    return this.session.instances;
  }

  get inputs(): readonly TensorInfo[] {
    return this.session.inputs;
  }

  get outputs(): readonly TensorInfo[] {
    return this.session.outputs;
  }

  /** Settles, with the reason, when its workers died and none could load it again. */
  get broken(): Promise<HeartwoodError> {
    return this.session.broken;
  }

  /** Calls that hold the version now, from their arrival to their answer. */
  get active(): number {
    return this.#active;
  }

  takes(input: string): boolean {
    return this.session.inputs.some(({ name }) => name === input);
  }

  answers(output: string): boolean {
    return this.session.outputs.some(({ name }) => name === output);
  }

  /** Runs `work` and keeps the version loaded until it has settled. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    this.#active++;
    try {
      return await work();
    } finally {
      this.#active--;
      if (this.#active === 0) this.#idle?.();
    }
  }

  /** Waits for the requests that hold the version, then frees its session. */
  async retire(): Promise<void> {
    if (this.#active > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
    await this.session.dispose();
  }
}

export interface LoadSettings extends SchedulingSettings, WarmUpSettings {
  /** What the scheduler is served through: accounts for its runs. */
  readonly account?: (scheduler: Scheduler) => Scheduler;
}

/**
 * Loads a version after checking its digests: the runtime never sees a file that is not what was published. Then runs it once with
 * each of the batch sizes of the warm-up.
 * Throws FAILED_PRECONDITION naming the file that differs, INVALID_ARGUMENT when the runtime cannot load the model or it does not
 * fit its manifest, and what a run of the warm-up throws.
 */
export async function loadVersion(
  repository: Repository,
  runtime: Runtime,
  entry: VersionEntry,
  settings: LoadSettings,
  signal?: AbortSignal,
): Promise<ServedVersion> {
  const manifest = imageManifest(await repository.verify(entry.manifest.model, entry.version, signal));
  const session = await runtime.load(join(entry.directory, 'model.onnx'), { instances: settings.instances });
  const scheduler = new BatchingScheduler(session, settings);
  const served = new ServedVersion(manifest, settings.account?.(scheduler) ?? scheduler, session);
  try {
    const mismatch = manifestMismatch(served);
    if (mismatch !== undefined)
      throw new HeartwoodError('INVALID_ARGUMENT', `${join(entry.directory, 'heartwood.json')}: ${mismatch}`);
    await warmUp(session, manifest, settings.warmUpSizes, signal);
    return served;
  } catch (thrown) {
    await session.dispose();
    throw thrown;
  }
}

/** What the manifest promises and the graph does not hold, if anything. */
function manifestMismatch(served: ServedVersion): string | undefined {
  const { budget, tokens } = served.manifest;
  if ((budget !== null) !== served.takes(BUDGET)) {
    return `budget is ${budget ? 'given' : 'null'}, but model.onnx has ${served.takes(BUDGET) ? 'an' : 'no'} input ${BUDGET}`;
  }
  if (tokens.stages.length > 0 && !served.answers(TOKENS_KEPT)) {
    return `tokens.stages has ${tokens.stages.length} stages, but model.onnx has no output ${TOKENS_KEPT}`;
  }
  return undefined;
}
