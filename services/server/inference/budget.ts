import { invalid } from '../../../libs/errors/error.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import type { InferParameter } from '../../../proto/gen/open_inference_grpc.js';
import type { ServedVersion } from '../catalog/served-version.js';
import type { WireTensor } from './wire-tensor.js';

/** Says which budget a request without one gets, in nats per sample. A controller may raise it under load. */
export interface BudgetPolicy {
  budgetOf(version: ServedVersion): number;
}

/** The version's own default. */
export const manifestBudget: BudgetPolicy = {
  budgetOf: ({ manifest }) => manifest.budget?.default ?? 0,
};

/** The request's parameter `budget`, undefined without one. Throws INVALID_ARGUMENT unless it is a float32 of 0 or more. */
export function budgetParameter(parameters: Readonly<Record<string, InferParameter>>): number | undefined {
  if (!Object.hasOwn(parameters, 'budget')) return undefined;
  const { doubleParam, int64Param, uint64Param, stringParam, boolParam } = parameters['budget'] ?? {};
  const text = stringParam?.trim() || undefined;
  const given = doubleParam ?? int64Param ?? uint64Param ?? text;
  return checkBudget(
    given === undefined ? NaN : Number(given),
    'parameter budget',
    said(given ?? stringParam ?? boolParam),
  );
}

/** What was given, as a message quotes it. */
function said(given: number | bigint | string | boolean | undefined): string {
  if (given === undefined) return 'nothing';
  return typeof given === 'string' ? JSON.stringify(given.slice(0, 60)) : String(given);
}

/**
 * The budget that a request names, if it does. A version without one drops no tokens whatever it may: rather than answer as if it had
 * been listened to, INVALID_ARGUMENT says so.
 */
export function namedBudget(
  { model, version, manifest }: ServedVersion,
  asked: number | undefined,
): number | undefined {
  if (asked === undefined || manifest.budget !== null) return asked;
  throw invalid(`budget: ${asked}, expected none: version ${version} of ${model} drops no tokens`);
}

/**
 * A budget that is asked of several versions side by side: an unpruned one stands beside those that take it as what they are compared with. Throws
 * INVALID_ARGUMENT naming the first that takes none and is no such version, or the first of all where none takes one.
 */
export function checkBudgetTaken(manifests: readonly Manifest[], asked: number | undefined, field: string): void {
  if (asked === undefined) return;
  const without = manifests.filter(({ budget }) => budget === null);
  const refused = without.length === manifests.length ? without[0] : without.find(({ method }) => method !== null);
  if (refused === undefined) return;
  const { model, version } = refused;
  throw invalid(
    `${field}: ${asked}, expected none: version ${version} of ${model} takes no budget (--versions names those that do)`,
  );
}

/** The values of a `budget` tensor, [B, 1]. Throws INVALID_ARGUMENT. */
export function budgetTensor({ datatype, dims, data }: WireTensor, batch: number): Float32Array {
  if (datatype !== 'FP32') throw invalid(`input budget: datatype ${datatype}, expected FP32`);
  if (dims.length !== 2 || dims[0] !== batch || dims[1] !== 1) {
    throw invalid(`input budget: shape [${dims.join(', ')}], expected [${batch}, 1]`);
  }
  const values = data as Float32Array;
  for (const value of values) checkBudget(value, 'input budget');
  return values;
}

/**
 * The model computes in float32, whose largest number is about 3.4e38: a budget beyond it would become infinite there.
 * Throws INVALID_ARGUMENT naming the field.
 */
export function checkBudget(value: number, field: string, text = String(value)): number {
  if (Number.isFinite(Math.fround(value)) && value >= 0) return value;
  throw invalid(`${field}: expected a finite number of nats, 0 or more and within float32, got ${text}`);
}
