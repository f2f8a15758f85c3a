/** The shapes of a ViT to be trained, its weights by their names in a Hugging Face checkpoint, and its network over weights that are inputs. */
import { vit } from '../models/architectures/vit.js';
import type { ClassifierSpec } from '../models/architectures/transformer.js';
import { canonical } from '../models/layers/canonical.js';
import { visionTransformer } from '../models/vision-transformer.js';
import { inputWeights } from '../models/weights.js';
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import type { WeightShape } from './parameters.js';

export interface VitShape {
  /** Side of the square input; the position embeddings are of this many patches. */
  readonly imageSize: number;
  readonly patchSize: number;
  readonly channels: number;
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly classes: number;
  readonly epsilon: number;
}

/** Weights of the embeddings, the blocks and the head, by their names in a Hugging Face checkpoint and in its order. */
export function vitWeights(shape: VitShape): WeightShape[] {
  const { hidden, intermediate, classes, patchSize, channels, imageSize } = shape;
  const patches = (imageSize / patchSize) ** 2;
  const weights: WeightShape[] = [
    { name: 'vit.embeddings.cls_token', dims: [1, 1, hidden] },
    { name: 'vit.embeddings.position_embeddings', dims: [1, patches + 1, hidden] },
    { name: 'vit.embeddings.patch_embeddings.projection.weight', dims: [hidden, channels, patchSize, patchSize] },
    { name: 'vit.embeddings.patch_embeddings.projection.bias', dims: [hidden] },
  ];
  const affine = (name: string, outputs: number, inputs: number) =>
    weights.push({ name: `${name}.weight`, dims: [outputs, inputs] }, { name: `${name}.bias`, dims: [outputs] });
  const norm = (name: string) =>
    weights.push({ name: `${name}.weight`, dims: [hidden] }, { name: `${name}.bias`, dims: [hidden] });
  for (let layer = 0; layer < shape.layers; layer++) {
    const block = `vit.encoder.layer.${layer}`;
    for (const part of ['query', 'key', 'value']) affine(`${block}.attention.attention.${part}`, hidden, hidden);
    affine(`${block}.attention.output.dense`, hidden, hidden);
    affine(`${block}.intermediate.dense`, intermediate, hidden);
    affine(`${block}.output.dense`, hidden, intermediate);
    norm(`${block}.layernorm_before`);
    norm(`${block}.layernorm_after`);
  }
  norm('vit.layernorm');
  affine('classifier', classes, hidden);
  return weights;
}

/** The network's shape as libs/models reads it from a config. */
export function specOf(shape: VitShape): ClassifierSpec {
  const { imageSize, patchSize, channels, hidden, layers, heads, intermediate, classes, epsilon } = shape;
  return {
    architecture: 'ViTForImageClassification',
    family: vit,
    image: { height: imageSize, width: imageSize, channels },
    patch: { height: patchSize, width: patchSize },
    tokens: (imageSize / patchSize) ** 2 + 1,
    special: 1,
    hidden,
    headWidth: hidden / heads,
    blocks: Array.from({ length: layers }, () => ({ heads, neurons: intermediate })),
    classes,
    epsilon,
    qkvBias: true,
  };
}

/** Appends the network to `g`: pixels [batch, C, H, W] → logits [batch, classes]; the weights are inputs of the graph. */
export function vitLogits(g: GraphBuilder, pixels: Value, shape: VitShape, weights: ReadonlyMap<string, Value>): Value {
  const inputs = { spec: specOf(shape), weights: inputWeights(weights), layers: canonical };
  return visionTransformer(g, pixels, { ...inputs, gates: new Map(), atSeams: new Map() }).logits;
}
