import { stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { bundledNames, isBundled } from '../../libs/data/bundled.js';
import { HeartwoodError, invalid } from '../../libs/errors/error.js';
import { bitsFrom, type Bits } from '../../libs/models/quantisation/blocks.js';
import { type LadderWish, parseLadder } from '../../libs/pruning/ladder/counts.js';
import { checkName } from '../../libs/store/names.js';
import type { PruneRequest as WireRequest } from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { type AllowedRoots, checkAllowed } from './allowed-paths.js';

export const POLICIES = ['curvature', 'heart', 'taylor', 'attention', 'tome', 'magnitude', 'random'] as const;
export const UNITS = ['tokens', 'heads', 'neurons', 'bits'] as const;
export const LOSSES = ['kl', 'cross-entropy'] as const;

/** A request with its defaults filled in, as it is kept with the job; which units may go without a word depends on the model. */
export interface JobRequest {
  modelDirectory: string;
  data: string;
  name: string;
  /** Exactly one of these two is given. */
  lossBudget?: number;
  flopsSaved?: number;
  units: string[];
  policy: (typeof POLICIES)[number];
  loss: (typeof LOSSES)[number];
  samples?: number;
  /** Tokens of a window of text. */
  window?: number;
  /** Bits of every matrix of a language model. */
  bits?: Bits;
  /** Samples that are measured at once by one process. */
  shardSamples?: number;
  /** Fixed counts of tokens. */
  ladder?: LadderWish;
  seed: number;
  confidence: number;
}

/**
 * Checks a request as it came and fills in the defaults.
 * @throws HeartwoodError INVALID_ARGUMENT, PERMISSION_DENIED for a path outside of the roots, or NOT_FOUND for one without anything there;
 *   the message names the field
 */
export async function checkRequest(request: WireRequest | undefined, roots: AllowedRoots = {}): Promise<JobRequest> {
  if (!request) throw invalid('request: expected what to prune, got nothing');
  const checked: JobRequest = {
    modelDirectory: checkPath(request.modelDirectory, 'model_directory', 'the folder of a model'),
    data: checkData(request.data),
    name: checkName(request.name || basename(request.modelDirectory), 'name'),
    ...checkTarget(request),
    units: checkUnits(request.units),
    policy: oneOf(request.policy || 'curvature', POLICIES, 'policy'),
    loss: oneOf(request.loss || 'kl', LOSSES, 'loss'),
    ...(request.samples === undefined ? {} : { samples: atLeast(request.samples, 1, 'samples') }),
    ...(request.window === undefined ? {} : { window: atLeast(request.window, 2, 'window') }),
    ...(request.bits === undefined ? {} : { bits: bitsFrom(request.bits, 'bits') }),
    ...(request.ladder === '' ? {} : { ladder: parseLadder(request.ladder) }),
    ...(request.shardSamples === undefined ? {} : { shardSamples: atLeast(request.shardSamples, 1, 'shard_samples') }),
    seed: request.seed,
    confidence: checkConfidence(request.confidence ?? 0.95),
  };
  await checkAllowed(checked, roots);
  await checkThere(checked);
  return checked;
}

function checkData(data: string): string {
  if (!data.startsWith('demo:')) return checkPath(data, 'data', `calibration data, or ${bundledNames.join(' or ')}`);
  if (!isBundled(data)) {
    throw new HeartwoodError(
      'NOT_FOUND',
      `data: no bundled dataset ${JSON.stringify(data.slice(0, 200))}, expected ${bundledNames.join(' or ')}, or a split of it such as demo:digits/test`,
    );
  }
  return data;
}

function checkPath(path: string, field: string, what: string): string {
  if (!path) throw invalid(`${field}: expected the path of ${what}, got nothing`);
  if (path.includes('\0') || !isAbsolute(path))
    throw invalid(
      `${field}: expected an absolute path (of the pruner's machine), got ${JSON.stringify(path.slice(0, 200))}`,
    );
  // Without `..`, which the file system reads after symbolic links and `join` before.
  return resolve(path);
}

function checkTarget({ lossBudget, flopsSaved }: WireRequest): { lossBudget: number } | { flopsSaved: number } {
  if (lossBudget !== undefined && flopsSaved !== undefined)
    throw invalid('loss_budget, flops_saved: expected one of the two, got both');
  if (lossBudget !== undefined) {
    if (!(lossBudget >= 0 && Number.isFinite(lossBudget)))
      throw invalid(`loss_budget: expected nats per sample, 0 or more, got ${lossBudget}`);
    return { lossBudget };
  }
  if (flopsSaved === undefined) throw invalid('loss_budget, flops_saved: expected one of the two, got neither');
  if (!(flopsSaved > 0 && flopsSaved < 1))
    throw invalid(`flops_saved: expected a share above 0 and below 1, got ${flopsSaved}`);
  return { flopsSaved };
}

function checkUnits(units: readonly string[]): string[] {
  for (const unit of units) oneOf(unit, UNITS, 'units');
  // In one order and each once, so that the same choice makes the same plan.
  return UNITS.filter((unit) => units.includes(unit));
}

function oneOf<T extends string>(value: string, allowed: readonly T[], field: string): T {
  const found = allowed.find((candidate) => candidate === value);
  if (found === undefined)
    throw invalid(`${field}: expected one of ${allowed.join(', ')}, got ${JSON.stringify(value.slice(0, 60))}`);
  return found;
}

function atLeast(value: number, least: number, field: string): number {
  if (value < least) throw invalid(`${field}: expected ${least} or more, got ${value}`);
  return value;
}

function checkConfidence(confidence: number): number {
  if (!(confidence > 0.5 && confidence < 1))
    throw invalid(`confidence: expected a number above 0.5 and below 1, got ${confidence}`);
  return confidence;
}

/** What is missing is said at once rather than by a job that fails later; the content is the job's to check. */
async function checkThere({ modelDirectory, data }: JobRequest): Promise<void> {
  if (!(await kindOf(modelDirectory))?.isDirectory())
    throw new HeartwoodError('NOT_FOUND', `model_directory: no folder at ${modelDirectory}`);
  if (!(await kindOf(join(modelDirectory, 'config.json'))))
    throw new HeartwoodError('NOT_FOUND', `model_directory: expected a config.json in ${modelDirectory}`);
  // The last part of the path may name a split of the data rather than something on disk.
  if (!data.startsWith('demo:') && !(await kindOf(data)) && !(await kindOf(dirname(data))))
    throw new HeartwoodError('NOT_FOUND', `data: nothing at ${data}`);
}

function kindOf(path: string) {
  return stat(path).catch(() => undefined);
}
