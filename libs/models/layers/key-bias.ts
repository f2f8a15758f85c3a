import type { GraphBuilder } from '../../onnx/builder.js';
import type { Value } from '../../onnx/ir.js';
import { add, greater, log, max, reshape, where } from '../../onnx/ops/index.js';
import type { TokenLayout } from '../tokens.js';

/** Far below every score, and still finite: a sum of it and a score is no NaN. */
const nowhere = -1e4;

/**
 * What is added to the scores of each key, [batch, longest], undefined for nothing: log of the mass in a packed layout
 * (a token that stands for n patches counts as n keys: proportional attention, Bolya et al. 2023, Token Merging, eq. 1) and `nowhere` where
 * there is no token, plus the logarithm of the keys' gates.
 */
export function totalKeyBias(g: GraphBuilder, layout: TokenLayout, gates: Value | undefined): Value | undefined {
  if (!layout.packed) return gates;
  const mass = reshape(g, layout.packed.mass, [layout.batch, layout.longest]);
  const present = greater(g, mass, g.constant(0));
  const logMass = where(g, present, log(g, max(g, mass, 1)), g.constant(nowhere));
  return gates ? add(g, logMass, gates) : logMass;
}
