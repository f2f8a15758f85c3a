import { internal } from '../errors/error.js';
import type { Tensor } from '../onnx/ir.js';
import type { Checkpoint } from './checkpoint.js';
import { readTensor } from './safetensors.js';

/** The numbers of a weight as float32: of the tensor that replaces it (float32), if there is one, else as the checkpoint has them. */
export async function weightValues(
  checkpoint: Checkpoint,
  replaced: ReadonlyMap<string, Tensor>,
  name: string,
): Promise<Float32Array> {
  const known = replaced.get(name);
  if (known) {
    const { type, dims, data } = known;
    if (data.kind === 'external') return readTensor({ name, type, shape: dims, ...data });
    if (type !== 'float32') throw internal(`tensor ${name} is ${type}, expected float32`);
    return new Float32Array(data.bytes.slice().buffer);
  }
  const location = checkpoint.tensors.get(name);
  if (!location) throw internal(`${checkpoint.directory}: tensor ${name} is missing`);
  return readTensor(location);
}
