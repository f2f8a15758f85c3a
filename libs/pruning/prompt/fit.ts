import type { PromptCurvature } from '../../curvature/prompt-curvature.js';
import { permutation, randomFor } from '../../data/random.js';
import { invalid } from '../../errors/error.js';
import type { Runtime } from '../../runtime/runtime.js';
import type { Fit } from '../policies/policy.js';
import { fitProbe } from '../predictor/fit.js';
import { promptFeatures } from './features.js';
import type { PromptStage } from './parameters.js';

export interface PromptFitOptions {
  /** Tokens of one run of a prompt, as it will be served. */
  readonly chunk: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number, total: number) => void;
}

/** Tokens at the end of a prompt that stay: by measurement, `npm run bench:prompt-tokens`. */
export const recentTokens = 8;

/** Tokens that a predictor is fitted on: more say little more, and take memory. */
const mostTokens = 16_384;

/**
 * Fits one predictor a stage: the logarithm of a token's curvature from the token and what came before it. Judged on documents that it was
 * not fitted to.
 */
export async function fitPromptStages(
  runtime: Runtime,
  targets: readonly PromptCurvature[],
  { chunk, seed, signal, progress }: PromptFitOptions,
): Promise<{ readonly stages: readonly PromptStage[]; readonly fits: readonly Fit[] }> {
  const stages: PromptStage[] = [];
  const fits: Fit[] = [];
  for (const [at, target] of targets.entries()) {
    const { block, hidden, positions, prompts, documents } = target;
    const rows = rowsToFit(target);
    if (rows.length === 0)
      throw invalid(`prompts of at most ${Math.max(...prompts)} tokens, expected more than ${recentTokens + 1}`);
    const chosen = permutation(rows.length, randomFor(seed, block, 7))
      .slice(0, mostTokens)
      .sort();
    const width = 2 * hidden;
    const tokens = new Float32Array(chosen.length * width);
    const curvature = new Float32Array(chosen.length);
    const image = new Int32Array(chosen.length);
    const places = new Map([...new Set(documents)].map((document, place) => [document, place]));
    const level = levelByDistance(target);
    let features: Float32Array | undefined;
    let open = -1;
    chosen.forEach((which, i) => {
      const row = rows[which]!;
      const [sample, token] = [Math.floor(row / positions), row % positions];
      if (sample !== open) {
        const size = positions * hidden;
        features = promptFeatures(target.x.subarray(sample * size, (sample + 1) * size), hidden, chunk);
        open = sample;
      }
      tokens.set(features!.subarray(token * width, (token + 1) * width), i * width);
      curvature[i] = target.curvature[row]! / level[prompts[sample]! - token]!;
      image[i] = places.get(documents[sample]!)!;
    });
    // What images share has no part here: all that a token may know of its text is in its own features.
    const nothing = new Float32Array(places.size * width);
    const fitted = await fitProbe(
      runtime,
      { hidden: width, tokens, cls: nothing, mean: nothing, image, target: curvature },
      {
        seed: seed + at,
        target: 'log',
        batch: 8,
        ...(signal ? { signal } : {}),
        progress: (done, total) => progress?.(at * total + done, targets.length * total),
      },
    );
    const { token: matrix, bias, output, outputBias } = fitted.probe;
    stages.push({ block, recent: recentTokens, probe: { matrix, bias, output, outputBias } });
    fits.push({ block, r2: fitted.r2, rankCorrelation: fitted.rankCorrelation });
  }
  return { stages, fits };
}

/** How much of all curvature the tokens hold that a predictor is fitted on: what is far from the end of its prompt hardly matters. */
const heldMass = 0.98;

/** Rows [sample · positions + token] of the tokens that may go and are near enough to the end of their prompt to matter. */
function rowsToFit(target: PromptCurvature): Int32Array {
  const { curvature, positions } = target;
  const mass = new Float64Array(positions + 1);
  forEachToken(target, (row, distance) => (mass[distance]! += curvature[row]!));
  const total = mass.reduce((sum, value) => sum + value, 0);
  let [farthest, held] = [recentTokens, 0];
  while (farthest < positions && held < heldMass * total) held += mass[++farthest]!;
  const rows: number[] = [];
  forEachToken(target, (row, distance) => {
    if (distance <= farthest) rows.push(row);
  });
  return Int32Array.from(rows);
}

/**
 * The geometric mean of the curvature by distance to the end of the prompt. What is near it matters far more, which no token can know of
 * itself: divided by it, what is left is the token's own part.
 */
function levelByDistance(target: PromptCurvature): Float64Array {
  const least = 1e-12;
  const sum = new Float64Array(target.positions + 1);
  const count = new Float64Array(target.positions + 1);
  forEachToken(target, (row, distance) => {
    sum[distance]! += Math.log(Math.max(target.curvature[row]!, least));
    count[distance]!++;
  });
  return sum.map((logs, distance) => Math.exp(count[distance]! > 0 ? logs / count[distance]! : 0));
}

/** Tokens that may go, with their distance to the first one after the prompt: not the first position, and not the last ones. */
function forEachToken({ positions, prompts }: PromptCurvature, visit: (row: number, distance: number) => void): void {
  prompts.forEach((prompt, sample) => {
    for (let token = 1; token < prompt - recentTokens; token++) visit(sample * positions + token, prompt - token);
  });
}
