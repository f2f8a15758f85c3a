/** Initial weights, by seed. */
import { integerIn, randomFor, type RandomGenerator } from '../data/random.js';
import type { Parameters } from './parameters.js';
import type { CausalShape } from './causal-graph.js';
import type { VitShape } from './vit-graph.js';

/** Uniform in (0, 1), of 31 random bits. */
function uniform(random: RandomGenerator): number {
  return (integerIn(random, 0, 0x7fffffff) + 0.5) / 2 ** 31;
}

/** A standard normal number (Box & Muller 1958), drawn again beyond two deviations. */
function truncatedNormal(random: RandomGenerator): number {
  for (;;) {
    const value = Math.sqrt(-2 * Math.log(uniform(random))) * Math.cos(2 * Math.PI * uniform(random));
    if (Math.abs(value) <= 2) return value;
  }
}

/**
 * Fills the parameters: matrices by truncated normals of deviation 1/√fan-in, those that write to the residual stream divided by
 * √(2 · layers) (Radford et al. 2019), norms 1 and 0, biases 0, position embeddings as sines and cosines of row and column,
 * which a short training need not learn (Dosovitskiy et al. learn them from noise, with a thousand times our data).
 */
export function initialiseVit(parameters: Parameters, shape: VitShape, seed: number): void {
  parameters.list.forEach(({ name, dims }, index) => {
    const random = randomFor(seed, 0x696e6974, index);
    const values = parameters.view(name);
    if (name.endsWith('position_embeddings')) return positions(values, shape);
    if (name.endsWith('cls_token')) return fill(values, 0.02, random);
    if (name.endsWith('.bias')) return void values.fill(0);
    if (name.includes('layernorm')) return void values.fill(1);
    const fanIn = dims.slice(1).reduce((product, dim) => product * dim, 1);
    const residual = /\.(attention\.output|output)\.dense\.weight$/.test(name);
    fill(values, 1 / Math.sqrt(fanIn * (residual ? 2 * shape.layers : 1)), random);
  });
}

/** The same for a GPT-NeoX, which has no position embeddings; embeddings of tokens are rows, of deviation 1/√width. */
export function initialiseCausal(parameters: Parameters, { layers }: CausalShape, seed: number): void {
  parameters.list.forEach(({ name, dims }, index) => {
    const values = parameters.view(name);
    if (name.endsWith('.bias')) return void values.fill(0);
    if (/layer_?norm/.test(name)) return void values.fill(1);
    const residual = /\.(attention\.dense|mlp\.dense_4h_to_h)\.weight$/.test(name);
    fill(values, 1 / Math.sqrt(dims[1]! * (residual ? 2 * layers : 1)), randomFor(seed, 0x696e6974, index));
  });
}

function fill(values: Float32Array, deviation: number, random: RandomGenerator): void {
  for (let at = 0; at < values.length; at++) values[at] = deviation * truncatedNormal(random);
}

/** A quarter of the width each for sin y, cos y, sin x, cos x, at frequencies from 1.5 down to 0.1 in geometric progression. */
function positions(values: Float32Array, { hidden, imageSize, patchSize }: VitShape): void {
  const grid = imageSize / patchSize;
  const quarter = Math.floor(hidden / 4);
  values.fill(0);
  for (let patch = 0; patch < grid * grid; patch++) {
    const place = [Math.floor(patch / grid), patch % grid];
    for (let at = 0; at < quarter; at++) {
      const frequency = 1.5 * (0.1 / 1.5) ** (quarter > 1 ? at / (quarter - 1) : 0);
      place.forEach((coordinate, axis) => {
        const start = (patch + 1) * hidden + 2 * axis * quarter + at;
        values[start] = 0.5 * Math.sin(coordinate * frequency);
        values[start + quarter] = 0.5 * Math.cos(coordinate * frequency);
      });
    }
  }
}
