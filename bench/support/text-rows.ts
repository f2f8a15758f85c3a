/** The rows of bench:llm-quality. */
import { HeartwoodError } from '../../libs/errors/error.js';
import { causalSpecOf } from '../../libs/models/causal-lm.js';
import { certifyRemoval, type CertifiedPlan } from '../../libs/pruning/calibration/search.js';
import { chooseFixedUnits } from '../../libs/pruning/fixed/choose.js';
import { fixedOrder } from '../../libs/pruning/fixed/order.js';
import { FIXED_POLICIES } from '../../libs/pruning/fixed/policies.js';
import { meanOf } from '../../libs/pruning/measure/measure.js';
import type { FixedChoice } from '../../libs/pruning/plan.js';
import type { PolicyName } from '../../libs/pruning/policies/index.js';
import { FIXED_KINDS, removedUnits, type FixedUnit, type PreparedPart } from '../../libs/pruning/tasks/task.js';
import { choiceCost, unitParameters } from '../../libs/pruning/text/cost.js';
import type { TextSubject } from './text-subject.js';

/** Nats per token. */
export const budgets = [0.02, 0.05, 0.1];
/** Shares of the parameters in the blocks to remove. */
export const shares = [0.2, 0.3, 0.4];

/** On documents that the pruner never saw: means over positions. */
export interface TextLoss {
  /** KL(dense ‖ pruned), nats. */
  readonly kl: number;
  /** Rise of the cross-entropy, nats. */
  readonly rise: number;
  readonly perplexity: number;
  readonly densePerplexity: number;
}

export interface TextBudgetRow {
  readonly model: string;
  readonly units: string;
  readonly budget: number;
  readonly seed: number;
  /** Whether the mean KL on the test documents is within the budget. */
  readonly outcome: 'held' | 'exceeded' | 'refused';
  readonly bound: number | null;
  readonly loss: TextLoss | null;
  /** Shares that are saved, of the parameters in the blocks and of the bytes that a token reads. */
  readonly parametersSaved: number | null;
  readonly bytesSaved: number | null;
}

export interface TextPolicyRow {
  readonly model: string;
  readonly policy: PolicyName;
  readonly share: number;
  /** Mean over the seeds. */
  readonly loss: TextLoss;
  /** Of the KL, standard deviation over the seeds. */
  readonly klSpread: number;
  readonly seeds: readonly ({ readonly seed: number } & TextLoss)[];
}

/** Measures a choice on the test documents. */
async function lossOf(test: PreparedPart, choice: FixedChoice): Promise<TextLoss> {
  const { losses } = await test.measure(choice);
  const mean = (values: ArrayLike<number>) => meanOf(values, losses.weights);
  const [dense, pruned] = [mean(losses.denseLoss!), mean(losses.prunedLoss!)];
  return { kl: mean(losses.kl), rise: pruned - dense, perplexity: Math.exp(pruned), densePerplexity: Math.exp(dense) };
}

/** Every budget under every seed: planned, certified as the pruner does it, and measured on the test documents. */
export async function textBudgetRows(subject: TextSubject, units: readonly string[]): Promise<TextBudgetRow[]> {
  const rows: TextBudgetRow[] = [];
  const began = Date.now();
  const spec = causalSpecOf(subject.checkpoint);
  const dense = choiceCost(spec, null);
  for (const seed of subject.seeds) {
    for (const budget of budgets) {
      const job = await subject.jobOf(seed, { lossBudget: budget, units });
      const common = { model: subject.name, units: units.join(', '), budget, seed };
      const plan = await certified(async () =>
        certifyRemoval(job, await chooseFixedUnits(job, () => Promise.resolve([]))),
      );
      if (!plan?.removed) {
        rows.push({ ...common, outcome: 'refused', bound: null, loss: null, parametersSaved: null, bytesSaved: null });
        continue;
      }
      const loss = await lossOf(subject.test, plan.removed);
      const cost = choiceCost(spec, plan.removed);
      rows.push({
        ...common,
        outcome: loss.kl <= budget ? 'held' : 'exceeded',
        bound: plan.certificate.bound,
        loss,
        parametersSaved: 1 - cost.blockParameters / dense.blockParameters,
        bytesSaved: 1 - cost.bytes / dense.bytes,
      });
    }
    console.error(
      `${subject.name}: budgets (${units.join(', ')}), seed ${seed}, ${Math.round((Date.now() - began) / 1000)} s`,
    );
  }
  return rows;
}

/** Undefined when the budget is refused. */
async function certified(work: () => Promise<CertifiedPlan>): Promise<CertifiedPlan | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HeartwoodError && error.code === 'FAILED_PRECONDITION') return undefined;
    throw error;
  }
}

/** What every policy loses without fine-tuning at the same share of the blocks' parameters removed. */
export async function textPolicyRows(subject: TextSubject): Promise<TextPolicyRow[]> {
  const found = new Map<string, ({ seed: number } & TextLoss)[]>();
  const spec = causalSpecOf(subject.checkpoint);
  const dense = choiceCost(spec, null).blockParameters;
  const began = Date.now();
  for (const seed of subject.seeds) {
    const { task } = await subject.jobOf(seed, {});
    const units = task.units(FIXED_KINDS);
    for (const policy of FIXED_POLICIES) {
      const cost = ({ kind }: FixedUnit) => unitParameters(spec, kind);
      const wanted = [...shares];
      const taken: FixedUnit[] = [];
      for await (const { unit, saved } of fixedOrder(task, { policy, kinds: FIXED_KINDS, seed, cost })) {
        taken.push(units[unit]!);
        if (saved < wanted[0]! * dense) continue;
        const share = wanted.shift()!;
        const loss = await lossOf(subject.test, removedUnits(taken, task.blocks));
        const key = `${policy}\n${share}`;
        found.set(key, [...(found.get(key) ?? []), { seed, ...loss }]);
        if (wanted.length === 0) break;
      }
      console.error(`${subject.name}: ${policy}, seed ${seed}, ${Math.round((Date.now() - began) / 1000)} s`);
    }
  }
  return FIXED_POLICIES.flatMap((policy) =>
    shares.flatMap((share): TextPolicyRow[] => {
      const seeds = found.get(`${policy}\n${share}`);
      if (!seeds) return [];
      const mean = (value: (row: TextLoss) => number) => seeds.reduce((sum, row) => sum + value(row), 0) / seeds.length;
      const kl = mean((row) => row.kl);
      const squares = seeds.reduce((sum, row) => sum + (row.kl - kl) ** 2, 0);
      return [
        {
          model: subject.name,
          policy,
          share,
          loss: {
            kl,
            rise: mean((row) => row.rise),
            perplexity: Math.exp(mean((row) => Math.log(row.perplexity))),
            densePerplexity: seeds[0]!.densePerplexity,
          },
          klSpread: seeds.length > 1 ? Math.sqrt(squares / (seeds.length - 1)) : 0,
          seeds,
        },
      ];
    }),
  );
}
