import type { Manifest } from './manifest.js';

interface TensorEntry {
  name: string;
  type: 'TYPE_FP32' | 'TYPE_INT32';
  dims: readonly number[];
  optional?: boolean;
}

/**
 * The text of config.pbtxt (a `inference.ModelConfig` in protobuf's text format). One config holds for all versions of a model:
 * what only some versions have (`budget`, `tokens_kept`) is listed when any of them has it, the input as optional.
 * `max_batch_size: 0` because the graphs carry their batch dimension themselves.
 */
export function renderTritonConfig(model: string, manifests: readonly Manifest[]): string {
  const first = manifests[0];
  if (!first) throw new RangeError('a model without versions has no config');
  const { height, width, channels } = first.input;
  const inputs: TensorEntry[] = [{ name: 'pixel_values', type: 'TYPE_FP32', dims: [-1, channels, height, width] }];
  if (manifests.some((manifest) => manifest.budget !== null))
    inputs.push({ name: 'budget', type: 'TYPE_FP32', dims: [-1, 1], optional: true });
  const outputs: TensorEntry[] = [{ name: 'logits', type: 'TYPE_FP32', dims: [-1, first.labels.length || -1] }];
  if (manifests.some((manifest) => manifest.tokens.stages.length > 0))
    outputs.push({ name: 'tokens_kept', type: 'TYPE_INT32', dims: [-1, -1] });
  return [
    `name: ${JSON.stringify(model)}`,
    'platform: "onnxruntime_onnx"',
    'max_batch_size: 0',
    ...inputs.map((tensor) => renderTensor('input', tensor)),
    ...outputs.map((tensor) => renderTensor('output', tensor)),
    'version_policy { all { } }',
    '',
  ].join('\n');
}

function renderTensor(field: 'input' | 'output', tensor: TensorEntry): string {
  const optional = tensor.optional ? ' optional: true' : '';
  return `${field} { name: ${JSON.stringify(tensor.name)} data_type: ${tensor.type} dims: [ ${tensor.dims.join(', ')} ]${optional} }`;
}
