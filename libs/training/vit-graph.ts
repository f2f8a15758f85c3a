/**
 * A ViT for image classification (Dosovitskiy et al. 2021) in Hugging Face's layout of weights, with the weights as graph inputs,
 * so that one session serves every step of training. Activations stay matrices [B·T, D] wherever they can: a Gemm with a
 * transposed operand differentiates into Gemms, and none of them needs a copy of a weight or of an activation.
 */
import type { GraphBuilder } from '../onnx/builder.js';
import type { Value } from '../onnx/ir.js';
import {
  add,
  concat,
  expandTo,
  gelu,
  gemm,
  layerNormalization,
  matMul,
  mul,
  reshape,
  slice,
  softmax,
  transpose,
} from '../onnx/ops/index.js';

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

export interface WeightShape {
  readonly name: string;
  readonly dims: readonly number[];
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

/** Appends the network to `g`: pixels [batch, C, H, W] → logits [batch, classes]. `weight` finds a weight by name. */
export function vitLogits(
  g: GraphBuilder,
  pixels: Value,
  batch: number,
  shape: VitShape,
  weight: (name: string) => Value,
): Value {
  const { hidden, heads, patchSize, channels, imageSize, epsilon } = shape;
  const grid = imageSize / patchSize;
  const tokens = grid * grid + 1;
  const rows = batch * tokens;
  const width = hidden / heads;
  const affine = (x: Value, name: string) =>
    gemm(g, x, weight(`${name}.weight`), weight(`${name}.bias`), { transB: true });
  const norm = (x: Value, name: string) =>
    layerNormalization(g, x, weight(`${name}.weight`), weight(`${name}.bias`), epsilon).y;

  // A convolution whose stride is its kernel is a matrix product over patches: [B, C, gy, p, gx, p] → [B·gy·gx, C·p·p].
  const cut = reshape(g, pixels, [batch, channels, grid, patchSize, grid, patchSize]);
  const patchLength = channels * patchSize * patchSize;
  const patches = reshape(g, transpose(g, cut, [0, 2, 4, 1, 3, 5]), [batch * grid * grid, patchLength]);
  const projection = 'vit.embeddings.patch_embeddings.projection';
  const kernel = reshape(g, weight(`${projection}.weight`), [hidden, patchLength]);
  const embedded = gemm(g, patches, kernel, weight(`${projection}.bias`), { transB: true });
  const classToken = expandTo(g, weight('vit.embeddings.cls_token'), g.integers([batch, 1, hidden]), [
    batch,
    1,
    hidden,
  ]);
  const sequence = concat(g, [classToken, reshape(g, embedded, [batch, tokens - 1, hidden])], 1);
  let x = reshape(g, add(g, sequence, weight('vit.embeddings.position_embeddings')), [rows, hidden]);

  const split = (value: Value, perm: readonly number[]) =>
    transpose(g, reshape(g, value, [batch, tokens, heads, width]), perm);
  for (let layer = 0; layer < shape.layers; layer++) {
    const block = `vit.encoder.layer.${layer}`;
    const normed = norm(x, `${block}.layernorm_before`);
    const query = mul(g, affine(normed, `${block}.attention.attention.query`), 1 / Math.sqrt(width));
    const key = affine(normed, `${block}.attention.attention.key`);
    const value = affine(normed, `${block}.attention.attention.value`);
    const scores = matMul(g, split(query, [0, 2, 1, 3]), split(key, [0, 2, 3, 1]));
    const context = matMul(g, softmax(g, scores), split(value, [0, 2, 1, 3]));
    const joined = reshape(g, transpose(g, context, [0, 2, 1, 3]), [rows, hidden]);
    x = add(g, x, affine(joined, `${block}.attention.output.dense`));
    const inner = gelu(g, affine(norm(x, `${block}.layernorm_after`), `${block}.intermediate.dense`));
    x = add(g, x, affine(inner, `${block}.output.dense`));
  }
  // Only the class token is read, and a layer normalisation is by row.
  const last = reshape(g, slice(g, reshape(g, x, [batch, tokens, hidden]), 1, 0, 1), [batch, hidden]);
  return affine(norm(last, 'vit.layernorm'), 'classifier');
}
