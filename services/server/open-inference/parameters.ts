/**
 * The parameters of requests, inputs and outputs that this server knows, by the rules of Triton's gRPC endpoint: a parameter with a
 * meaning must have its type; names that begin with `triton_` are reserved, and unknown ones are refused; of the others those that mean
 * nothing here (sequence_id, headers, binary_data_output, a client's own) are ignored.
 */
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { defaultPriority } from '../scheduling/scheduler.js';
import type { InferParameter, ModelInferRequest } from '../../../proto/gen/open_inference_grpc.js';

type Parameters = Readonly<Record<string, InferParameter>>;

/** Says of an answer in a stream whether it is its request's last one. */
export const FINAL_RESPONSE = 'triton_final_response';
/** A client asks by it for a last answer without content, where a request has many; those that have one bear the mark anyhow. */
export const EMPTY_FINAL_RESPONSE = 'triton_enable_empty_final_response';

/** Priorities are 1 to this; the default is in their middle, and any other counts as it. */
export const lowestPriority = 2 * defaultPriority - 1;

export interface SchedulingParameters {
  /** 1 is served first; undefined: the default. */
  readonly priority: number | undefined;
  readonly timeoutMs: number | undefined;
}

/** Checks a request's parameters and reads those that say when it is to run. Throws INVALID_ARGUMENT naming the parameter. */
export function schedulingParameters(parameters: Parameters): SchedulingParameters {
  for (const [name, parameter] of Object.entries(parameters)) {
    if (name.startsWith('triton_') && name !== EMPTY_FINAL_RESPONSE) {
      const said = JSON.stringify(name.slice(0, 80));
      throw invalid(`parameter ${said}: names that begin with triton_ are reserved, expected ${EMPTY_FINAL_RESPONSE}`);
    }
    if (name === 'sequence_start' || name === 'sequence_end' || name === EMPTY_FINAL_RESPONSE) {
      if (parameter.boolParam === undefined) throw invalid(`parameter ${name}: expected a bool_param`);
    }
  }
  const priority = wholeNumber(parameters, 'priority');
  const timeout = wholeNumber(parameters, 'timeout');
  const known = priority !== undefined && priority >= 1 && priority <= lowestPriority;
  return { priority: known ? priority : undefined, timeoutMs: timeout ? timeout / 1000 : undefined };
}

/** Undefined where it is not given. */
function wholeNumber(parameters: Parameters, name: string): number | undefined {
  if (!Object.hasOwn(parameters, name)) return undefined;
  const { int64Param, uint64Param } = parameters[name] ?? {};
  const value = int64Param ?? uint64Param;
  if (value === undefined) throw invalid(`parameter ${name}: expected an int64_param or uint64_param`);
  if (value < 0n) throw invalid(`parameter ${name}: expected 0 or more, got ${value}`);
  return Number(value);
}

/** How many of the greatest each requested output is to give instead of its values, by its name. Throws INVALID_ARGUMENT. */
export function classifications({ outputs }: ModelInferRequest): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { name, parameters } of outputs) {
    if (!Object.hasOwn(parameters, 'classification')) continue;
    const count = parameters['classification']?.int64Param;
    if (count === undefined) throw invalid(`output ${name}: parameter classification: expected an int64_param`);
    if (count <= 0n) throw invalid(`output ${name}: parameter classification: expected 1 or more, got ${count}`);
    counts.set(name, Number(count));
  }
  return counts;
}

/** Throws UNIMPLEMENTED naming a tensor whose contents are said to be in shared memory. */
export function refuseSharedMemory({ inputs, outputs }: ModelInferRequest): void {
  const tensors = [
    ...inputs.map(({ name, parameters }) => ({ kind: 'input', name, parameters })),
    ...outputs.map(({ name, parameters }) => ({ kind: 'output', name, parameters })),
  ];
  for (const { kind, name, parameters } of tensors) {
    if (!Object.hasOwn(parameters, 'shared_memory_region')) continue;
    throw new HeartwoodError(
      'UNIMPLEMENTED',
      `${kind} ${name}: shared memory is not supported, expected the contents in the message`,
    );
  }
}
