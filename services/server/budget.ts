import { invalid } from '../../libs/errors/error.js';
import type { InferParameter } from '../../proto/gen/open_inference_grpc.js';
import type { ServedVersion } from './served-version.js';
import type { WireTensor } from './tensor-codec.js';

/** Says which budget a request without one gets, in nats per sample. A controller may raise it under load. */
export interface BudgetPolicy {
  budgetOf(version: ServedVersion): number;
}

/** The version's own default. */
export const manifestBudget: BudgetPolicy = {
  budgetOf: ({ manifest }) => manifest.budget?.default ?? 0,
};

/** The request's parameter `budget`, undefined without one. Throws INVALID_ARGUMENT unless it is a finite number of 0 or more. */
export function budgetParameter(parameters: Readonly<Record<string, InferParameter>>): number | undefined {
  if (!Object.hasOwn(parameters, 'budget')) return undefined;
  const { doubleParam, int64Param, uint64Param, stringParam } = parameters['budget'] ?? {};
  const given = doubleParam ?? int64Param ?? uint64Param ?? (stringParam?.trim() || undefined);
  return checkBudget(given === undefined ? NaN : Number(given), 'parameter budget');
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

function checkBudget(value: number, field: string): number {
  if (!Number.isFinite(value) || value < 0)
    throw invalid(`${field}: expected a finite number of nats, 0 or more, got ${value}`);
  return value;
}
