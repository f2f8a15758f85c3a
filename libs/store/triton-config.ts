import { type ImageManifest, type Manifest, stagesOf, type TextManifest } from './manifest.js';

/** A tensor as a model's configuration says it. */
export interface TritonTensor {
  name: string;
  type: 'TYPE_FP32' | 'TYPE_INT32' | 'TYPE_UINT32' | 'TYPE_BOOL' | 'TYPE_STRING';
  dims: readonly number[];
  optional?: boolean;
}

/**
 * The text of config.pbtxt (a `inference.ModelConfig` in protobuf's text format). One config holds for all versions of a model:
 * what only some versions have (`budget`, `tokens_kept`) is listed when any of them has it, the input as optional. The task is
 * the first version's.
 */
export function renderTritonConfig(model: string, manifests: readonly Manifest[]): string {
  const first = manifests[0];
  if (!first) throw new RangeError('a model without versions has no config');
  const lines = first.task === 'text-generation' ? generation(first, manifests) : classification(first, manifests);
  return [`name: ${JSON.stringify(model)}`, ...lines, 'version_policy { all { } }', ''].join('\n');
}

/** `max_batch_size: 0` because the graphs carry their batch dimension themselves. */
function classification(first: ImageManifest, manifests: readonly Manifest[]): string[] {
  const { height, width, channels } = first.input;
  const inputs: TritonTensor[] = [{ name: 'pixel_values', type: 'TYPE_FP32', dims: [-1, channels, height, width] }];
  if (manifests.some(({ budget }) => budget !== null))
    inputs.push({ name: 'budget', type: 'TYPE_FP32', dims: [-1, 1], optional: true });
  const outputs: TritonTensor[] = [{ name: 'logits', type: 'TYPE_FP32', dims: [-1, first.labels.length || -1] }];
  if (manifests.some((manifest) => stagesOf(manifest).length > 0))
    outputs.push({ name: 'tokens_kept', type: 'TYPE_INT32', dims: [-1, -1] });
  return ['platform: "onnxruntime_onnx"', 'max_batch_size: 0', ...renderTensors(inputs, outputs)];
}

/** The inputs of a language model: those of Triton's vLLM backend, and `budget` where a version has one. */
export function generationInputs(budget: boolean): TritonTensor[] {
  const optional = (name: string, type: TritonTensor['type']) => ({ name, type, dims: [1], optional: true });
  return [
    { name: 'text_input', type: 'TYPE_STRING', dims: [1] },
    optional('stream', 'TYPE_BOOL'),
    optional('sampling_parameters', 'TYPE_STRING'),
    optional('exclude_input_in_output', 'TYPE_BOOL'),
    optional('return_finish_reason', 'TYPE_BOOL'),
    optional('return_cumulative_logprob', 'TYPE_BOOL'),
    optional('return_logprobs', 'TYPE_BOOL'),
    optional('return_num_input_tokens', 'TYPE_BOOL'),
    optional('return_num_output_tokens', 'TYPE_BOOL'),
    ...(budget ? [optional('budget', 'TYPE_FP32')] : []),
  ];
}

/** Its outputs: the text, and what the `return_*` inputs ask for. */
export const generationOutputs: readonly TritonTensor[] = [
  { name: 'text_output', type: 'TYPE_STRING', dims: [-1] },
  { name: 'finish_reason', type: 'TYPE_STRING', dims: [-1] },
  { name: 'cumulative_logprob', type: 'TYPE_FP32', dims: [-1] },
  { name: 'logprobs', type: 'TYPE_STRING', dims: [-1] },
  { name: 'num_input_tokens', type: 'TYPE_UINT32', dims: [1] },
  { name: 'num_output_tokens', type: 'TYPE_UINT32', dims: [-1] },
];

/**
 * A language model answers a request any number of times (`decoupled`), and batches by itself (`max_batch_size: 0`), as the LLM backends
 * of Triton do. ONNX Runtime's own backend cannot serve it, since its caches and its tokenizer are the server's business: the backend's
 * name says whose they are.
 */
function generation(first: TextManifest, manifests: readonly Manifest[]): string[] {
  const inputs = generationInputs(manifests.some(({ budget }) => budget !== null));
  return [
    'backend: "heartwood"',
    'max_batch_size: 0',
    ...renderTensors(inputs, generationOutputs),
    'model_transaction_policy { decoupled: true }',
    'instance_group { count: 1 kind: KIND_MODEL }',
    `parameters { key: "context" value { string_value: "${first.text.context}" } }`,
  ];
}

function renderTensors(inputs: readonly TritonTensor[], outputs: readonly TritonTensor[]): string[] {
  return [
    ...inputs.map((tensor) => renderTensor('input', tensor)),
    ...outputs.map((tensor) => renderTensor('output', tensor)),
  ];
}

function renderTensor(field: 'input' | 'output', tensor: TritonTensor): string {
  const optional = tensor.optional ? ' optional: true' : '';
  return `${field} { name: ${JSON.stringify(tensor.name)} data_type: ${tensor.type} dims: [ ${tensor.dims.join(', ')} ]${optional} }`;
}
