import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { scoreCheckpoint } from '../../../libs/curvature/score.js';
import { openDataset } from '../../../libs/data/open.js';
import { preprocessImage } from '../../../libs/data/preprocess.js';
import { asFloat32, openCheckpoint, type Checkpoint } from '../../../libs/models/checkpoint.js';
import { explainPlan, readPredictors } from '../../../libs/pruning/artefact.js';
import type { Plan } from '../../../libs/pruning/plan.js';
import { traceTokens } from '../../../libs/pruning/token-maps.js';
import { loadGraph } from '../../../libs/runtime/load-graph.js';
import { createRuntime, type Runtime, type Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { argmax } from '../measure/statistics.js';
import type { HeadSensitivity, ReportImage } from '../report/data.js';
import type { DemoOptions, Look } from './demo.js';

/** Images that the report shows, and samples that the heads' sensitivities are means over. */
const shown = 12;
const scored = 64;

/** What became of the tokens of some test images, and how sensitive the loss is to each head. */
export const look: Look = async (repository, manifest, images, options, signal) => {
  const runtime = createRuntime();
  const workDirectory = await mkdtemp(join(options.output, '.look-'));
  try {
    const checkpoint = await asFloat32(await openCheckpoint(options.model), workDirectory);
    const plan = manifest.plan as Plan | null;
    const pictures: ReportImage[] = [];
    if (plan?.tokens) {
      const arrays = await readPredictors(repository.versionDirectory(manifest.model, manifest.version));
      const graph = await explainPlan({ removed: plan.removed, tokens: plan.tokens }, checkpoint, arrays);
      const session = await loadGraph(runtime, graph, workDirectory);
      const dense = await runtime.load(join(repository.versionDirectory(manifest.model, 1), 'model.onnx'));
      for (const [at, image] of images.slice(0, shown).entries()) {
        signal.throwIfAborted();
        pictures.push(await explain(session, dense, manifest, image, at));
      }
    }
    return { images: pictures, heads: await headSensitivity(runtime, checkpoint, options, workDirectory, signal) };
  } finally {
    await runtime.close();
    await rm(workDirectory, { recursive: true, force: true });
  }
};

async function explain(
  session: Session,
  dense: Session,
  manifest: Parameters<Look>[1],
  image: Parameters<Look>[2][number],
  at: number,
): Promise<ReportImage> {
  const { channels, height, width } = manifest.input;
  const data = await preprocessImage(image.encoded, manifest.preprocessing);
  const pixels: TensorValue = { type: 'float32', dims: [1, channels, height, width], data };
  const budget: TensorValue = {
    type: 'float32',
    dims: [1, 1],
    data: Float32Array.of(manifest.budget?.default ?? 0),
  };
  const [pruned, unpruned] = await Promise.all([
    session.run({ pixel_values: pixels, budget }),
    dense.run({ pixel_values: { ...pixels, data: data.slice() } }),
  ]);
  const name = (logits: TensorValue | undefined) => {
    const best = argmax(logits!.data as Float32Array);
    return manifest.labels[best] ?? String(best);
  };
  const moves = manifest.tokens.stages.map((_, stage) => pruned[`groups_${stage}`]!.data as Int32Array);
  return {
    name: `image ${at + 1}`,
    png: await sharp(image.encoded).png().toBuffer(),
    label: image.label === undefined ? undefined : (manifest.labels[image.label] ?? String(image.label)),
    dense: name(unpruned['logits']),
    pruned: name(pruned['logits']),
    groups: traceTokens(moves, manifest.tokens.total),
  };
}

/** ½h of each head in nats per sample, under KL: what removing it costs to second order. */
async function headSensitivity(
  runtime: Runtime,
  checkpoint: Checkpoint,
  options: DemoOptions,
  workDirectory: string,
  signal: AbortSignal,
): Promise<HeadSensitivity> {
  const dataset = await openDataset(options.testData, checkpoint.preprocessing, { classes: checkpoint.labels });
  const count = Math.min(scored, dataset.size);
  const scores = await scoreCheckpoint(
    { checkpoint, dataset, indices: [...Array(count).keys()], units: ['heads'], seed: options.seed },
    { runtime, workDirectory, signal },
  );
  const { shape, curvature } = scores.units.heads!;
  const heads = shape[1]!;
  const values = Array.from({ length: shape[0]! }, (_, layer) =>
    curvature.slice(layer * heads, (layer + 1) * heads).map((h) => (0.5 * h) / count),
  );
  return { loss: 'KL', values };
}
