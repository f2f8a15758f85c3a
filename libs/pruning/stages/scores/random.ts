import { randomFor } from '../../../data/random.js';
import { padTokens } from '../../../models/tokens.js';
import {
  add,
  cast,
  div,
  floor,
  gather,
  matMul,
  mul,
  reduceSumSquare,
  slice,
  sqrt,
  sub,
} from '../../../onnx/ops/index.js';
import type { RandomScore } from '../parameters.js';
import type { ScoreRule } from './score.js';

/** Places that the table of draws tells apart; further ones begin anew. */
const capacity = 1024;
/** How far the class token's direction turns the draws: small, so that rounding does not change the order. */
export const randomTurns = 4;

/**
 * frac(draw_i + k_i · turns · cos(x_class, direction)), k_i in {1, 2, 3}: another order for every image, the same each time.
 */
export const random: ScoreRule<RandomScore> = (g, { seam, width, places }, { seed }) => {
  const { draws, multiples, direction } = randomTables(seed, seam.block, width);
  const { full } = seam.tokens.layout;
  const x = slice(g, padTokens(g, seam.tokens.layout, seam.tokens.rows), 1, 0, 1, 1);
  const norm = sqrt(g, add(g, reduceSumSquare(g, x, [2]), 1e-12));
  const along = matMul(g, x, g.constant(direction, [width, 1]));
  const phase = mul(g, div(g, along, norm), randomTurns);
  const at = cast(g, places, 'int64');
  const table = (values: readonly number[]) =>
    gather(
      g,
      g.constant(
        Array.from({ length: full }, (_, place) => values[place % capacity]!),
        [full],
      ),
      at,
    );
  const turned = add(g, table(draws), mul(g, table(multiples), phase));
  return { kind: 'tokens', score: sub(g, turned, floor(g, turned)) };
};

/** Draws in [0, 1), multiples in {1, 2, 3} and a unit vector, by seed and block. */
export function randomTables(
  seed: number,
  block: number,
  width: number,
): { draws: number[]; multiples: number[]; direction: number[] } {
  const generator = randomFor(seed, block);
  const uniform = () => (generator.next() >>> 0) / 2 ** 32;
  const draws = Array.from({ length: capacity }, uniform);
  const multiples = Array.from({ length: capacity }, () => 1 + Math.floor(3 * uniform()));
  const raw = Array.from({ length: width }, () => 2 * uniform() - 1);
  const norm = Math.hypot(...raw);
  return { draws, multiples, direction: raw.map((v) => v / norm) };
}
