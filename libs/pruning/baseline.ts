import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { HeartwoodError, invalid } from '../errors/error.js';
import { asFloat32, checkFinite, openCheckpoint, type Checkpoint } from '../models/checkpoint.js';
import { type Task, taskOf } from '../models/architectures/index.js';
import { specOf } from '../models/classifier.js';
import { writeModel } from '../onnx/write.js';
import type { ManifestDraft, Published } from '../store/publish.js';
import { openRepository } from '../store/repository.js';
import type { Segment } from '../store/segments.js';
import { segmentsOf } from './segments.js';
import { denseGraph } from './served-graph.js';
import { textBaseline } from './text/baseline.js';

export interface ImportRequest {
  readonly modelDirectory: string;
  readonly repository: string;
  readonly name: string;
}

/** What the baseline of a kind of model is made of. */
export interface BaselineTask {
  /** Throws NOT_FOUND or INVALID_ARGUMENT for a checkpoint that does not fit. */
  check(checkpoint: Checkpoint): Promise<void>;
  /** Gives what writes the version into a folder and says what it is. The checkpoint is float32. */
  prepare(checkpoint: Checkpoint, workDirectory: string): Promise<(folder: string) => Promise<ManifestDraft>>;
}

const imageBaseline: BaselineTask = {
  check: (checkpoint) => Promise.resolve(void specOf(checkpoint)),
  prepare(checkpoint) {
    const graph = denseGraph(checkpoint);
    const segments = segmentsOf(graph, [], specOf(checkpoint).tokens);
    return Promise.resolve(async (folder: string) => {
      await writeModel(graph, join(folder, 'model.onnx'));
      return baselineDraft(checkpoint, segments);
    });
  },
};

const tasks: Readonly<Record<Task, BaselineTask>> = {
  'image-classification': imageBaseline,
  'text-generation': textBaseline,
};

/** The unpruned model in the repository, and its checkpoint in float32. */
export interface Baseline {
  readonly checkpoint: Checkpoint;
  readonly published: Published;
}

/**
 * Puts the unpruned model into the repository as version 1, or finds it there. Throws NOT_FOUND or INVALID_ARGUMENT for a
 * checkpoint that does not fit, FAILED_PRECONDITION when version 1 was made from another checkpoint.
 */
export async function importBaseline(
  request: ImportRequest,
  context: { readonly workDirectory: string; readonly signal: AbortSignal },
): Promise<Baseline> {
  const original = await openCheckpoint(request.modelDirectory);
  const task = tasks[taskOf(original)];
  // What the network is made of is checked before anything is written.
  await task.check(original);
  await checkFinite(original);
  await mkdir(context.workDirectory, { recursive: true });
  const checkpoint = await asFloat32(original, context.workDirectory);
  const repository = await openRepository(request.repository, { create: true });
  const same = async (): Promise<Published | undefined> => {
    const manifest = await repository.readManifest(request.name, 1).catch((error: unknown) => {
      if (error instanceof HeartwoodError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    });
    if (!manifest) return undefined;
    if (manifest.checkpointDigest !== checkpoint.digest) {
      throw new HeartwoodError(
        'FAILED_PRECONDITION',
        `${request.name} in ${repository.directory}: version 1 was made from another checkpoint than ${request.modelDirectory}, expected another name`,
      );
    }
    return { version: 1, directory: repository.versionDirectory(request.name, 1), manifest };
  };
  const earlier = await same();
  if (earlier) return { checkpoint, published: earlier };
  const fill = await task.prepare(checkpoint, context.workDirectory);
  try {
    const published = await repository.publish(request.name, fill, { version: 1, signal: context.signal });
    return { checkpoint, published };
  } catch (error) {
    if (!(error instanceof HeartwoodError) || error.code !== 'ALREADY_EXISTS') throw error;
    const other = await same();
    if (!other) throw error;
    return { checkpoint, published: other };
  }
}

function baselineDraft(checkpoint: Checkpoint, segments: readonly Segment[]): ManifestDraft {
  const spec = specOf(checkpoint);
  const flops = segments[0]?.constant;
  if (flops === undefined) throw invalid(`${checkpoint.directory}: no FLOPs`);
  return {
    task: 'image-classification',
    parent: null,
    architecture: checkpoint.architecture,
    checkpointDigest: checkpoint.digest,
    dataDigest: null,
    method: null,
    plan: null,
    input: spec.image,
    labels: [...checkpoint.labels],
    preprocessing: checkpoint.preprocessing,
    tokens: { total: spec.tokens, special: spec.special, stages: [] },
    flops: { dense: flops, mean: flops, segments: [...segments] },
    budget: null,
    deltaLoss: null,
    accuracy: null,
  };
}

/** Throws NOT_FOUND or INVALID_ARGUMENT for a checkpoint that no version can be made of. */
export function checkCheckpoint(checkpoint: Checkpoint): Promise<void> {
  return tasks[taskOf(checkpoint)].check(checkpoint);
}
