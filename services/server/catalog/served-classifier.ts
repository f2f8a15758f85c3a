import { join } from 'node:path';
import type { Runtime, Session } from '../../../libs/runtime/runtime.js';
import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import type { ImageManifest } from '../../../libs/store/manifest.js';
import { BatchingScheduler } from '../scheduling/batching.js';
import type { Scheduler } from '../scheduling/scheduler.js';
import type { SchedulingSettings } from '../scheduling/settings.js';
import { HeartwoodError } from '../../../libs/errors/error.js';
import { ladderFlops, type LadderPart } from '../../../libs/store/ladder-part.js';
import { flopsOf } from '../inference/flops.js';
import { ladderOf, type LadderUse, loadLadder } from './ladder-session.js';
import { LoadedVersion } from './loaded-version.js';
import { BUDGET, TOKENS_KEPT } from './tensor-names.js';
import { warmUp, type WarmUpSettings } from './warm-up.js';

/** A loaded version of an image classifier. */
export class ServedClassifier extends LoadedVersion<ImageManifest> {
  constructor(
    manifest: ImageManifest,
    readonly scheduler: Scheduler,
    session: Session,
    /** What it is served by in place of its whole graph, if so. */
    readonly ladder?: LadderPart,
  ) {
    super(manifest, session);
  }

  get inputs(): readonly TensorInfo[] {
    return this.session.inputs;
  }

  get outputs(): readonly TensorInfo[] {
    return this.session.outputs;
  }

  get waiting(): number {
    return this.scheduler.waiting;
  }

  get running(): number {
    return this.scheduler.pending - this.scheduler.waiting;
  }

  get oldestWaitingMs(): number {
    return this.scheduler.oldestWaitingMs;
  }

  takes(input: string): boolean {
    return this.session.inputs.some(({ name }) => name === input);
  }

  answers(output: string): boolean {
    return this.session.outputs.some(({ name }) => name === output);
  }

  /** What a sample took whose stages left these counts. */
  flopsOf(kept: readonly number[]): number {
    return this.ladder ? ladderFlops(this.ladder, kept) : flopsOf(this.manifest, kept);
  }

  protected free(): Promise<void> {
    return this.session.dispose();
  }
}

export interface ClassifierSettings extends SchedulingSettings, WarmUpSettings {
  /** When a version that has a ladder is served by it. Default 'auto'. */
  readonly ladder?: LadderUse;
  /** What the scheduler is served through: accounts for its runs. */
  readonly account?: (scheduler: Scheduler) => Scheduler;
}

/**
 * Loads a classifier whose files were verified, and runs it once with each of the batch sizes of the warm-up.
 * Throws INVALID_ARGUMENT when the runtime cannot load the model or it does not fit its manifest, and what a run of the warm-up throws.
 */
export async function loadClassifier(
  runtime: Runtime,
  directory: string,
  manifest: ImageManifest,
  settings: ClassifierSettings,
  signal?: AbortSignal,
): Promise<ServedClassifier> {
  const { instances, warmUpSizes } = settings;
  const ladder = ladderOf(settings.ladder ?? 'auto', runtime, manifest);
  const climbed = ladder && (await loadLadder(runtime, directory, ladder, instances));
  const session = climbed ?? (await runtime.load(join(directory, 'model.onnx'), { instances }));
  const scheduler = new BatchingScheduler(session, settings);
  const served = new ServedClassifier(manifest, settings.account?.(scheduler) ?? scheduler, session, ladder);
  try {
    const mismatch = manifestMismatch(served);
    if (mismatch !== undefined)
      throw new HeartwoodError('INVALID_ARGUMENT', `${join(directory, 'heartwood.json')}: ${mismatch}`);
    if (warmUpSizes.length > 0) await climbed?.warmUp();
    await warmUp(session, manifest, warmUpSizes, signal);
    return served;
  } catch (thrown) {
    await session.dispose();
    throw thrown;
  }
}

/** What the manifest promises and the graph does not hold, if anything. */
function manifestMismatch(served: ServedClassifier): string | undefined {
  const { budget, tokens } = served.manifest;
  if ((budget !== null) !== served.takes(BUDGET)) {
    return `budget is ${budget ? 'given' : 'null'}, but model.onnx has ${served.takes(BUDGET) ? 'an' : 'no'} input ${BUDGET}`;
  }
  if (tokens.stages.length > 0 && !served.answers(TOKENS_KEPT)) {
    return `tokens.stages has ${tokens.stages.length} stages, but model.onnx has no output ${TOKENS_KEPT}`;
  }
  return undefined;
}
