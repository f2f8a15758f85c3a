/** A repository to serve from: ViT-B/16 with random weights unpruned as version 1, and with stages as version 2. */
import { join } from 'node:path';
import { vitBase, writeRandomCheckpoint } from '../../libs/models/testing/random-checkpoint.js';
import { specOf } from '../../libs/models/classifier.js';
import { writeModel } from '../../libs/onnx/write.js';
import { importBaseline } from '../../libs/pruning/baseline.js';
import { segmentsOf } from '../../libs/pruning/segments.js';
import { servedGraph } from '../../libs/pruning/served-graph.js';
import { stageBlocks } from '../../libs/pruning/statistics/schedule.js';
import { createRuntime } from '../../libs/runtime/runtime.js';
import { imageManifest } from '../../libs/store/manifest.js';
import { openRepository } from '../../libs/store/repository.js';
import { placedTable, randomStages } from './random-stages.js';

/** Publishes both versions of `name`; version 2 saves `share` of the FLOPs at its default budget. */
export async function publishPair(repository: string, work: string, name: string, share: number): Promise<void> {
  const { signal } = new AbortController();
  const modelDirectory = await writeRandomCheckpoint(join(work, name), vitBase);
  const { checkpoint, published } = await importBaseline(
    { modelDirectory, repository, name },
    { workDirectory: join(work, 'import'), signal },
  );
  const runtime = createRuntime({ workers: 1 });
  try {
    const blocks = stageBlocks(vitBase.layers);
    const stages = randomStages(vitBase.hidden, blocks);
    const table = await placedTable(runtime, checkpoint, stages, [share], join(work, 'graphs'));
    const graph = servedGraph(checkpoint, new Map(), stages, table);
    const { dense } = published.manifest.flops;
    const manifest = imageManifest(published.manifest);
    const { files: _files, createdAt: _createdAt, version: _version, schema: _schema, ...facts } = manifest;
    const budget = table.rows[0]!.kl;
    await (
      await openRepository(repository)
    ).publish(name, async (directory) => {
      await writeModel(graph, join(directory, 'model.onnx'));
      return {
        ...facts,
        parent: 1,
        method: { policy: 'curvature', loss: 'kl', lossBudget: null, flopsSaved: share, units: ['tokens'], seed: 7 },
        tokens: { ...facts.tokens, stages: blocks },
        flops: { dense, mean: (1 - share) * dense, segments: segmentsOf(graph, blocks, specOf(checkpoint).tokens) },
        budget: { default: budget, ceiling: budget },
      };
    });
  } finally {
    await runtime.close();
  }
}
