import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { architectures } from '../architectures/index.js';
import { writeSafetensors } from '../safetensors.js';

/** Sizes of a vision transformer with random weights. */
export interface RandomShape {
  readonly architecture?: keyof typeof architectures;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels?: number;
  readonly classes: number;
  readonly seed?: number;
}

/** ViT-Ti/16 and ViT-B/16 at 224×224 with the thousand classes of ImageNet. */
export const vitTiny: RandomShape = {
  hidden: 192,
  layers: 12,
  heads: 3,
  intermediate: 768,
  imageSize: 224,
  patchSize: 16,
  classes: 1000,
};
export const vitBase: RandomShape = { ...vitTiny, hidden: 768, heads: 12, intermediate: 3072 };

/** Writes a checkpoint folder in Hugging Face's layout; weights are uniform with variance 1/inputs. Gives the folder. */
export async function writeRandomCheckpoint(folder: string, shape: RandomShape): Promise<string> {
  const { hidden, layers, intermediate, imageSize, patchSize, channels = 3, classes } = shape;
  const architecture = shape.architecture ?? 'ViTForImageClassification';
  const { prefix, specialTokens, classifiers } = architectures[architecture]!;
  const random = xoroshiro128plus(shape.seed ?? 1);
  const uniform = () => (random.next() / 2 ** 31);
  const tensors: { name: string; type: 'float32'; shape: number[]; bytes: () => Promise<Uint8Array> }[] = [];
  const put = (name: string, dims: number[], spread: number, centre = 0) => {
    const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => centre + spread * uniform());
    tensors.push({ name, type: 'float32', shape: dims, bytes: async () => new Uint8Array(values.buffer) });
  };
  const linear = (name: string, outputs: number, inputs: number) => {
    put(`${name}.weight`, [outputs, inputs], Math.sqrt(3 / inputs));
    put(`${name}.bias`, [outputs], 0.1);
  };
  const norm = (name: string) => {
    put(`${name}.weight`, [hidden], 0.2, 1);
    put(`${name}.bias`, [hidden], 0.1);
  };
  for (const token of specialTokens) put(`${prefix}.embeddings.${token}`, [1, 1, hidden], 1);
  const tokens = specialTokens.length + (imageSize / patchSize) ** 2;
  put(`${prefix}.embeddings.position_embeddings`, [1, tokens, hidden], 1);
  const projection = `${prefix}.embeddings.patch_embeddings.projection`;
  put(`${projection}.weight`, [hidden, channels, patchSize, patchSize], Math.sqrt(3 / (channels * patchSize ** 2)));
  put(`${projection}.bias`, [hidden], 0.1);
  for (let layer = 0; layer < layers; layer++) {
    const block = `${prefix}.encoder.layer.${layer}`;
    for (const part of ['query', 'key', 'value']) linear(`${block}.attention.attention.${part}`, hidden, hidden);
    linear(`${block}.attention.output.dense`, hidden, hidden);
    linear(`${block}.intermediate.dense`, intermediate, hidden);
    linear(`${block}.output.dense`, hidden, intermediate);
    norm(`${block}.layernorm_before`);
    norm(`${block}.layernorm_after`);
  }
  norm(`${prefix}.layernorm`);
  for (const { name } of classifiers) linear(name, classes, hidden);
  await mkdir(folder, { recursive: true });
  const config = {
    architectures: [architecture],
    model_type: prefix,
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: shape.heads,
    intermediate_size: intermediate,
    hidden_act: 'gelu',
    layer_norm_eps: 1e-12,
    image_size: imageSize,
    patch_size: patchSize,
    num_channels: channels,
    num_labels: classes,
  };
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(config, undefined, 2)}\n`);
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return folder;
}
