import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import {
  DataType,
  type ModelConfig,
  type ModelDynamicBatching,
  type ModelInput,
  ModelInput_Format,
  ModelInstanceGroup_Kind,
  ModelQueuePolicy_TimeoutAction,
  type ModelWarmup,
} from '../../../proto/gen/open_inference_config.js';
import { generationInputs, generationOutputs } from '../../../libs/store/triton-config.js';
import {
  isClassifier,
  type ServedClassifier,
  type ServedLanguageModel,
  type ServedVersion,
} from '../catalog/served-version.js';
import { GENERATION_PLATFORM } from './metadata.js';
import { defaultPriority } from '../scheduling/scheduler.js';
import type { SchedulingSettings } from '../scheduling/settings.js';
import type { WarmUpSettings } from '../catalog/warm-up.js';
import { BUDGET, IMAGE, PIXELS } from '../catalog/tensor-names.js';
import { lowestPriority } from './parameters.js';
import { datatypeOf } from './tensor-codec.js';

/** What the server's settings say of every version. */
export interface ServingFacts extends SchedulingSettings, Pick<WarmUpSettings, 'warmUpSizes'> {
  /** Samples of the largest request. */
  readonly maxBatch: number;
}

/**
 * How a version is served, as Triton's configuration says it. It tells of this server, where requests may be as large as `maxBatch` and
 * dimensions are without the batch; config.pbtxt in the repository tells of the graph, whose batch is a dimension like any other.
 */
export function modelConfig(served: ServedVersion, facts: ServingFacts): ModelConfig {
  return isClassifier(served) ? classifierConfig(served, facts) : generationConfig(served);
}

function classifierConfig(served: ServedClassifier, facts: ServingFacts): ModelConfig {
  const { maxBatch, warmUpSizes } = facts;
  const input = served.inputs.map(inputOf);
  if (served.takes(PIXELS)) {
    const image = { name: IMAGE, dataType: DataType.TYPE_STRING, dims: [1n] };
    input.push({ ...image, format: ModelInput_Format.FORMAT_NONE, optional: true });
  }
  return {
    name: served.model,
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    versionPolicy: { all: {} },
    maxBatchSize: maxBatch,
    input,
    output: served.outputs.map((tensor) => ({
      name: tensor.name,
      dataType: dataTypeOf(tensor),
      dims: withoutBatch(tensor),
    })),
    instanceGroup: [{ name: served.model, count: served.instances, kind: ModelInstanceGroup_Kind.KIND_AUTO }],
    defaultModelFilename: 'model.onnx',
    dynamicBatching: dynamicBatching(facts),
    parameters: parametersOf(served),
    modelWarmup: warmUpSizes.map((size) => warmUpOf(size, served.inputs)),
    modelTransactionPolicy: { decoupled: false },
  };
}

/** A language model answers a request any number of times, and batches by itself. */
function generationConfig(served: ServedLanguageModel): ModelConfig {
  const { context, caches } = served.manifest.text;
  const { rows, cacheTokens, cacheBytes } = served.engine.load;
  const facts = { context, blocks: caches.length, rows, cache_tokens: cacheTokens, cache_bytes: cacheBytes };
  return {
    name: served.model,
    platform: '',
    backend: GENERATION_PLATFORM,
    versionPolicy: { all: {} },
    maxBatchSize: 0,
    input: generationInputs(served.manifest.budget !== null).map(({ name, type, dims, optional }) => ({
      name,
      dataType: DataType[type],
      format: ModelInput_Format.FORMAT_NONE,
      dims: dims.map(BigInt),
      optional: optional === true,
    })),
    output: generationOutputs.map(({ name, type, dims }) => ({
      name,
      dataType: DataType[type],
      dims: dims.map(BigInt),
    })),
    instanceGroup: [{ name: served.model, count: 1, kind: ModelInstanceGroup_Kind.KIND_MODEL }],
    defaultModelFilename: 'model.onnx',
    parameters: { ...parametersOf(served), ...stringValues(Object.entries(facts)) },
    modelWarmup: [],
    modelTransactionPolicy: { decoupled: true },
  };
}

function inputOf(tensor: TensorInfo): ModelInput {
  const format = tensor.name === PIXELS ? ModelInput_Format.FORMAT_NCHW : ModelInput_Format.FORMAT_NONE;
  const { name } = tensor;
  return { name, dataType: dataTypeOf(tensor), format, dims: withoutBatch(tensor), optional: name === BUDGET };
}

function dataTypeOf({ type }: TensorInfo): DataType {
  if (type === 'string') return DataType.TYPE_STRING;
  const name: unknown = DataType[`TYPE_${datatypeOf(type)}` as keyof typeof DataType];
  return typeof name === 'number' ? name : DataType.TYPE_INVALID;
}

function withoutBatch({ shape }: TensorInfo): bigint[] {
  return shape.slice(1).map((dim) => (typeof dim === 'number' ? BigInt(dim) : -1n));
}

function dynamicBatching(facts: ServingFacts): ModelDynamicBatching {
  return {
    preferredBatchSize: [...facts.preferredBatches],
    maxQueueDelayMicroseconds: microseconds(facts.queueDelayMs),
    preserveOrdering: false,
    priorityLevels: BigInt(lowestPriority),
    defaultPriorityLevel: BigInt(defaultPriority),
    defaultQueuePolicy: {
      timeoutAction: ModelQueuePolicy_TimeoutAction.REJECT,
      defaultTimeoutMicroseconds: microseconds(facts.queueTimeoutMs ?? 0),
      allowTimeoutOverride: true,
      maxQueueSize: facts.queueLimit,
    },
  };
}

function microseconds(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1000));
}

function warmUpOf(size: number, inputs: readonly TensorInfo[]): ModelWarmup {
  const made = inputs.map((tensor) => {
    const fractions = tensor.type === 'float32' || tensor.type === 'float64';
    const data = fractions && tensor.name !== BUDGET ? { randomData: true } : { zeroData: true };
    return [tensor.name, { dataType: dataTypeOf(tensor), dims: withoutBatch(tensor), ...data }] as const;
  });
  return { name: `batch of ${size}`, batchSize: size, inputs: Object.fromEntries(made), count: 1 };
}

function parametersOf(served: ServedVersion): Record<string, { stringValue: string }> {
  const { manifest, provider } = served;
  const { architecture, method, budget, flops } = manifest;
  const facts: [string, string | number | undefined][] = [
    ['architecture', architecture],
    ['policy', method?.policy],
    ['provider', provider],
    ['ladder', isClassifier(served) ? served.ladder?.counts.join() : undefined],
    ['budget_default', budget?.default],
    ['budget_ceiling', budget?.ceiling],
    ['flops_dense', flops.dense],
    ['flops_mean', flops.mean],
  ];
  return stringValues(facts);
}

function stringValues(facts: readonly (readonly [string, string | number | undefined])[]) {
  return Object.fromEntries(
    facts.flatMap(([name, value]) => (value === undefined ? [] : [[name, { stringValue: String(value) }]])),
  );
}
