/** A trained ViT in Hugging Face's layout: config.json, model.safetensors, preprocessor_config.json. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolders } from '../errors/make-folders.js';
import type { ImagePreprocessing } from '../models/preprocessing.js';
import { writeSafetensors } from '../models/safetensors.js';
import type { Parameters } from './parameters.js';
import type { VitShape } from './vit-graph.js';

/** PIL.Image.Resampling. */
const resampling = { nearest: 0, lanczos: 1, bilinear: 2, bicubic: 3 } as const;

/** Writes the three files to `directory`, which is made if it is missing. */
export async function writeVitCheckpoint(
  directory: string,
  model: VitShape,
  labels: readonly string[],
  preprocessing: ImagePreprocessing,
  parameters: Parameters,
): Promise<void> {
  await makeFolders(directory);
  const writeJson = (name: string, value: unknown) =>
    writeFile(join(directory, name), `${JSON.stringify(value, undefined, 2)}\n`);
  await writeJson('config.json', {
    architectures: ['ViTForImageClassification'],
    attention_probs_dropout_prob: 0,
    dtype: 'float32',
    encoder_stride: model.patchSize,
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    hidden_size: model.hidden,
    id2label: Object.fromEntries(labels.map((label, id) => [String(id), label])),
    image_size: model.imageSize,
    initializer_range: 0.02,
    intermediate_size: model.intermediate,
    label2id: Object.fromEntries(labels.map((label, id) => [label, id])),
    layer_norm_eps: model.epsilon,
    model_type: 'vit',
    num_attention_heads: model.heads,
    num_channels: model.channels,
    num_hidden_layers: model.layers,
    patch_size: model.patchSize,
    qkv_bias: true,
  });
  await writeJson('preprocessor_config.json', {
    do_normalize: true,
    do_rescale: preprocessing.rescale !== 0,
    do_resize: preprocessing.resize,
    image_mean: preprocessing.mean,
    image_processor_type: 'ViTImageProcessor',
    image_std: preprocessing.std,
    resample: resampling[preprocessing.resample],
    rescale_factor: preprocessing.rescale,
    size: preprocessing.size,
  });
  const tensors = parameters.list.map(({ name, dims }) => {
    const { buffer, byteOffset, byteLength } = parameters.view(name);
    return { name, type: 'float32' as const, shape: dims, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  await writeSafetensors(join(directory, 'model.safetensors'), tensors, { format: 'pt' });
}
