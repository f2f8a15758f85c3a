import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openCheckpoint } from '../models/checkpoint.js';
import { countFlops } from '../onnx/flops.js';
import { flopsAt } from '../store/segments.js';
import { segmentsOf, symbolsOf } from './segments.js';
import { denseGraph, measuredGraph } from './served-graph.js';
import { writeSmallModel } from './testing/small-model.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-segments-'));
after(() => rm(root, { recursive: true, force: true }));
const { modelDirectory } = await writeSmallModel(root, 1);
const checkpoint = await openCheckpoint(modelDirectory);

test('the segments give the FLOPs of the graph at any counts of tokens', () => {
  for (const rule of ['merge', 'drop'] as const) {
    const matchings = rule === 'merge' ? 2 : 1;
    const score = rule === 'merge' ? ({ policy: 'tome' } as const) : ({ policy: 'magnitude' } as const);
    const stages = [0, 1].map((block) => ({ block, rule, selection: 'rank', matchings, score }) as const);
    const graph = measuredGraph(checkpoint, new Map(), stages);
    const segments = segmentsOf(graph, [0, 1], 17);
    for (const kept of [
      [17, 17],
      [17, 9],
      [12, 5],
      [4, 4],
      [11, 11],
    ]) {
      const exact = countFlops(graph, symbolsOf(graph, [0, 1], kept)).total;
      const fitted = flopsAt(segments, kept, 17);
      // But for halves of odd numbers of tokens.
      assert.ok(Math.abs(fitted - exact) < 0.002 * exact, `${rule} ${kept.join()}: ${fitted} for ${exact}`);
    }
    assert.ok(flopsAt(segments, [9, 4], 17) < flopsAt(segments, [17, 9], 17));
  }
});

test('without stages all is one constant', () => {
  const graph = denseGraph(checkpoint);
  const [only, ...rest] = segmentsOf(graph, [], 17);
  assert.deepEqual(rest, []);
  assert.equal(only?.constant, countFlops(graph, { B: 1 }).total);
});
