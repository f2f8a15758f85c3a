import { join, resolve } from 'node:path';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { openText } from '../../../libs/data/text/open.js';
import { openTokenizer, type Tokenizer } from '../../../libs/data/text/tokenizer.js';
import { textManifest } from '../../../libs/store/manifest.js';
import { openRepository } from '../../../libs/store/repository.js';
import type { InferenceClient } from '../../server/client.js';
import type { Context } from '../context.js';
import { openTextSamples, remoteTexts } from '../measure/compare-texts.js';
import { comparisonNotes, comparisonTable } from '../measure/comparison-table.js';
import { writeWhole } from '../output.js';
import { createProgress } from '../progress.js';
import { type ComparisonReport, renderComparison } from '../report/comparison-report.js';
import { shapeOf } from '../report/text-shape.js';
import { withServedPair } from './pair.js';
import { summariseText, textDemoTable, type TextVersionSummary } from './text-summary.js';
import { continuePrompts, judgeTexts, type Excerpt, type TextTraffic } from './text-traffic.js';

export interface TextDemoOptions {
  /** A checkpoint folder of a language model. */
  readonly model: string;
  /** Calibration text for the pruner, and unseen text: `demo:brown` has a split for each. */
  readonly data: string;
  readonly testData: string;
  /** Nats per predicted position. */
  readonly lossBudget: number;
  readonly units: readonly string[];
  /** Calibration windows at most; undefined: the pruner's own number. */
  readonly samples?: number;
  /** Texts that both versions continue. */
  readonly prompts: number;
  /** Windows of unseen text for the perplexity. */
  readonly windows: number;
  readonly seed: number;
  /** Gets the repository and the pruner's folder. */
  readonly output: string;
}

export interface TextDemoResult {
  readonly versions: readonly TextVersionSummary[];
  readonly table: ReturnType<typeof textDemoTable>;
  /** The prompt of the samples. */
  readonly prompt: string;
  readonly seconds: number;
  /** The report's file. */
  readonly report: string;
}

const name = 'demo-text';
const temperature = 0.7;

/**
 * The same as the demo of images for a language model: pruned by a job over gRPC, taken up by the server, the same prompts streamed from both
 * versions in turn, and both asked what they think of documents that neither training nor pruning saw.
 */
export async function runTextDemo(options: TextDemoOptions, context: Context): Promise<TextDemoResult> {
  const started = performance.now();
  const progress = createProgress(context);
  const output = join(resolve(options.output), 'text');
  try {
    return await withServedPair({ ...options, name, output }, progress, context.signal, async (pair) => {
      const { client, models, version } = pair;
      const repository = await openRepository(models);
      const versions = [1, version];
      const manifests = await Promise.all(
        versions.map((each) => repository.readManifest(name, each).then(textManifest)),
      );
      const tokenizer = await openTokenizer(join(resolve(options.model), 'tokenizer.json'));
      const { prompts, windows, maxTokens } = await excerpts(options, tokenizer, manifests[0]!.text.context);
      const traffic = { model: name, versions, signal: context.signal, progress: progress.report.bind(progress) };
      const drawn = { maxTokens, seed: options.seed, temperature };
      const continuations = await continuePrompts(client, prompts, drawn, traffic);
      const losses = await judgeTexts(client, windows, traffic);
      const rows = manifests.map((manifest, at) =>
        summariseText(manifest, continuations[at]!, losses[at]!, losses[0]!),
      );
      const table = textDemoTable(rows);
      const report = join(output, 'report.html');
      const compared = await compareOn(
        client,
        options,
        { versions, tokens: prompts[0]!.ids.length, maxTokens },
        traffic,
      );
      await writeWhole(
        report,
        renderComparison({ ...compared, model: name, lead: table, shapes: manifests.map(shapeOf) }),
      );
      return {
        versions: rows,
        table,
        report,
        prompt: tokenizer.decode(prompts[0]!.ids),
        seconds: (performance.now() - started) / 1000,
      };
    });
  } finally {
    progress.stop();
  }
}

/** The server's own comparison of the versions on unseen text: where they part from each other, and by how much. */
async function compareOn(
  client: InferenceClient,
  { testData, prompts, seed }: TextDemoOptions,
  {
    versions,
    tokens,
    maxTokens,
  }: { readonly versions: readonly number[]; readonly tokens: number; readonly maxTokens: number },
  { signal, progress }: Pick<TextTraffic, 'signal' | 'progress'>,
): Promise<Pick<ComparisonReport, 'result' | 'table' | 'notes' | 'data'>> {
  const data = await openTextSamples({ data: testData, samples: prompts, seed, promptTokens: tokens });
  const asked = { model: name, versions, maxTokens, promptTokens: tokens, batch: 1, concurrency: 1, warmup: 1 };
  const result = await client.compare({ ...asked, seed, confidence: 0.95 }, remoteTexts(data, signal), {
    signal,
    progress: ({ stage, done, total, unit }) => progress({ stage, done: Number(done), total: Number(total), unit }),
  });
  const notes = comparisonNotes(result, { data: data.name, server: '127.0.0.1' });
  return { result, table: comparisonTable(result), notes, data };
}

/** Prompts and windows of unseen text, drawn by seed: half a context to be continued by a quarter, and nearly whole ones to be judged. */
async function excerpts(
  { testData, prompts, windows, seed }: TextDemoOptions,
  tokenizer: Tokenizer,
  context: number,
): Promise<{ prompts: Excerpt[]; windows: Excerpt[]; maxTokens: number }> {
  // A window that fills the context leaves no room for the one token that every request asks for.
  const positions = Math.min(context, 256) - 1;
  const dataset = await openText(testData, tokenizer, { positions });
  const order = permutation(dataset.size, randomFor(seed, dataset.size));
  const read = async (index: number, length: number): Promise<Excerpt> => {
    const sample = await dataset.read(index);
    return { ids: [...sample.ids.subarray(0, length)], name: sample.name };
  };
  const half = Math.max(1, Math.floor((positions + 1) / 2));
  return {
    prompts: await Promise.all([...order.slice(0, prompts)].map((index) => read(index, half))),
    windows: await Promise.all([...order.slice(0, windows)].map((index) => read(index, positions))),
    maxTokens: Math.max(2, Math.floor(half / 2)),
  };
}
