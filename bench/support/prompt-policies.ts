/** Ways to choose which tokens of a prompt are dropped, and what each loses: by masks in the canonical network, so that any score can be tried. */
import { promptCurvature, type TextSamples } from '../../libs/curvature/prompt-curvature.js';
import { readTokens } from '../../libs/data/text/dataset.js';
import { randomFor } from '../../libs/data/random.js';
import { buildCausalLm, causalSpecOf } from '../../libs/models/causal-lm.js';
import type { Checkpoint } from '../../libs/models/checkpoint.js';
import { reduceMean } from '../../libs/onnx/ops/index.js';
import { klDivergence, logSoftmax } from '../../libs/pruning/measure/divergence.js';
import { applyProbe, normaliseRows } from '../../libs/pruning/predictor/probe.js';
import { promptFeatures } from '../../libs/pruning/prompt/features.js';
import type { PromptStage } from '../../libs/pruning/prompt/parameters.js';
import { quantile } from '../../libs/pruning/statistics/quantiles.js';
import { loadGraph } from '../../libs/runtime/load-graph.js';
import type { Runtime } from '../../libs/runtime/runtime.js';
import type { TensorValue } from '../../libs/runtime/tensor.js';

export const PROMPT_POLICIES = ['random', 'magnitude', 'attention', 'curvature', 'oracle'] as const;
export type PromptPolicy = (typeof PROMPT_POLICIES)[number];

export interface PromptTrial {
  readonly checkpoint: Checkpoint;
  readonly samples: TextSamples;
  readonly stages: readonly PromptStage[];
  readonly prompt: number;
  readonly chunk: number;
  readonly runtime: Runtime;
  readonly workDirectory: string;
}

/**
 * Scores by policy and stage, [windows · prompt]; the least are dropped. `magnitude`: |x|; `attention`: what a token receives from the prompt's
 * tokens in the block before, those after it included; `curvature`: as the stage's predictor foretells; `oracle`: the curvature itself, which has
 * seen what follows the prompt.
 */
export async function promptScores(trial: PromptTrial): Promise<Record<PromptPolicy, Float64Array[]>> {
  const { checkpoint, samples, stages, prompt, chunk, runtime, workDirectory } = trial;
  const blocks = stages.map(({ block }) => block);
  const truth = await promptCurvature(
    checkpoint,
    samples,
    { blocks, prompt, directions: 16, seed: 99 },
    { runtime, workDirectory },
  );
  const attention = await attentionReceived(trial);
  const D = causalSpecOf(checkpoint).hidden;
  const { positions } = samples.dataset;
  const rowOf = (at: number) => Math.floor(at / prompt) * positions + (at % prompt);
  const windows = samples.indices.length;
  return {
    random: stages.map((_, stage) => {
      const random = randomFor(5, stage);
      return Float64Array.from({ length: windows * prompt }, () => random.next());
    }),
    magnitude: truth.map(({ x }) =>
      Float64Array.from({ length: windows * prompt }, (_, at) =>
        Math.hypot(...x.subarray(rowOf(at) * D, (rowOf(at) + 1) * D)),
      ),
    ),
    attention,
    curvature: stages.map(({ probe }, stage) => {
      const scores = new Float64Array(windows * prompt);
      const { matrix: token, ...others } = probe;
      const nothing = new Float32Array(token.length);
      for (let window = 0; window < windows; window++) {
        const x = truth[stage]!.x.subarray(window * positions * D, (window * positions + prompt) * D);
        const features = normaliseRows(promptFeatures(x, D, chunk), 2 * D);
        const none = new Float32Array(2 * D);
        const own = new Int32Array(prompt);
        const shared = { ...others, token, classToken: nothing, meanToken: nothing };
        scores.set(applyProbe(shared, features, none, none, own), window * prompt);
      }
      return scores;
    }),
    oracle: truth.map(({ curvature }) =>
      Float64Array.from({ length: windows * prompt }, (_, at) => curvature[rowOf(at)]!),
    ),
  };
}

/** The mean over heads and over the prompt's tokens from each token on of the attention to it, in the block before each stage. */
async function attentionReceived({ checkpoint, samples, stages, prompt, runtime, workDirectory }: PromptTrial) {
  const { positions } = samples.dataset;
  const { g } = buildCausalLm(checkpoint, { lowering: 'canonical', positions, batch: 1 });
  const softmaxes = g.allNodes.filter(({ op }) => op === 'Softmax').map(({ outputs }) => outputs[0]!);
  const outputs = stages.map(({ block }, stage) =>
    g.named(`attention_${stage}`, reduceMean(g, softmaxes[Math.max(0, block - 1)]!, [1], false)),
  );
  const session = await loadGraph(runtime, g.build(outputs), workDirectory);
  const received = stages.map(() => new Float64Array(samples.indices.length * prompt));
  for (const [window, index] of samples.indices.entries()) {
    const { ids } = await readTokens(samples.dataset, [index]);
    const result = await session.run({ input_ids: { type: 'int64', dims: [1, positions], data: ids } });
    received.forEach((into, stage) => {
      const weights = result[`attention_${stage}`]!.data as Float32Array;
      for (let key = 0; key < prompt; key++) {
        let sum = 0;
        for (let query = key; query < prompt; query++) sum += weights[query * positions + key]!;
        into[window * prompt + key] = sum / (prompt - key);
      }
    });
  }
  await session.dispose();
  return received;
}

/**
 * The mean KL of the predictions after the prompts when each stage drops this share of the tokens that come to it, those with the least
 * scores: of all prompts together (how many of each is up to its scores), or of each prompt alike.
 */
export async function lossesOf(
  trial: PromptTrial,
  scores: readonly Float64Array[],
  shares: readonly number[],
  pooled: boolean,
): Promise<{ kl: number; dropped: number }[]> {
  const { checkpoint, samples, stages, prompt, runtime, workDirectory } = trial;
  const { positions } = samples.dataset;
  const { g, logits, spec } = buildCausalLm(checkpoint, {
    lowering: 'canonical',
    positions,
    batch: 1,
    gates: ['masks'],
  });
  const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), workDirectory);
  const units = spec.blocks.length * positions;
  const run = async (ids: BigInt64Array, data: Float32Array) => {
    const masks: TensorValue = { type: 'float32', dims: [1, units], data };
    const result = await session.run({ input_ids: { type: 'int64', dims: [1, positions], data: ids }, masks });
    const all = result['logits']!.data as Float32Array;
    return Array.from({ length: positions - prompt + 1 }, (_, i) => logSoftmax(all, prompt - 1 + i, spec.vocabulary));
  };
  const windows = await Promise.all(samples.indices.map((index) => readTokens(samples.dataset, [index])));
  const dense: Float64Array[][] = [];
  for (const { ids } of windows) dense.push(await run(ids, new Float32Array(units).fill(1)));
  const results: { kl: number; dropped: number }[] = [];
  for (const share of shares) {
    const gone = droppedBy(trial, scores, 1 - (1 - share) ** (1 / stages.length), pooled);
    let [sum, count, dropped] = [0, 0, 0];
    for (const [window, { ids }] of windows.entries()) {
      const masks = new Float32Array(units).fill(1);
      stages.forEach(({ block }, stage) => {
        for (const token of gone[stage]![window]!) masks[block * positions + token] = 1e-30;
      });
      dropped += gone.reduce((total, stage) => total + stage[window]!.length, 0) / prompt;
      for (const [i, logQ] of (await run(ids, masks)).entries()) {
        sum += klDivergence(dense[window]![i]!, logQ);
        count++;
      }
    }
    results.push({ kl: sum / count, dropped: dropped / windows.length });
  }
  await session.dispose();
  return results;
}

/** By stage and window the tokens that go there; the first position and the last tokens of each run stay, whatever the policy. */
function droppedBy(
  { samples, stages, prompt, chunk }: PromptTrial,
  scores: readonly Float64Array[],
  share: number,
  pooled: boolean,
) {
  const endOf = (token: number) => Math.min(prompt, (Math.floor(token / chunk) + 1) * chunk);
  const judged = Array.from({ length: prompt - 1 }, (_, i) => i + 1).filter(
    (token) => endOf(token) - token > stages[0]!.recent,
  );
  const windows = samples.indices.length;
  let left = Array.from({ length: windows }, () => judged);
  return scores.map((score) => {
    const of = (window: number, token: number) => score[window * prompt + token]!;
    const common = quantile(
      left.flatMap((tokens, window) => tokens.map((token) => of(window, token))),
      share,
    );
    const gone = left.map((tokens, window) => {
      const least = pooled
        ? common
        : quantile(
            tokens.map((token) => of(window, token)),
            share,
          );
      return tokens.filter((token) => of(window, token) < least);
    });
    left = left.map((tokens, window) => tokens.filter((token) => !gone[window]!.includes(token)));
    return gone;
  });
}
