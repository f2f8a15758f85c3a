import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ServedVersion } from '../catalog/served-version.js';
import type { InferenceRecord } from '../inference/record.js';
import { InferenceStatistics } from './statistics.js';

const version = { model: 'net', version: 2 } as unknown as ServedVersion;
const phases = { queue: 1, preprocess: 2, compute: 4, postprocess: 8, total: 16 };

function record(batch: number, execution: { samples: number }, extra: Partial<InferenceRecord> = {}): InferenceRecord {
  const run = {
    batch,
    runBatch: execution.samples,
    execution: { startedAt: 0, endedAt: 4, ...execution },
    tokens: 1,
    tokensKept: [],
    flops: [],
    budget: undefined,
  };
  return { version, outcome: 'OK', phases, run, ...extra };
}

test('requests of one execution are counted each, the execution once', () => {
  let now = 1000;
  const statistics = new InferenceStatistics(() => now++);
  const first = record(2, { samples: 3 });
  statistics.ended(first);
  statistics.ended({ ...first, run: { ...first.run!, batch: 1 } });
  statistics.ended(record(1, { samples: 1 }));
  assert.deepEqual(statistics.of(version), {
    name: 'net',
    version: '2',
    lastInference: 1002n,
    inferenceCount: 4n,
    executionCount: 2n,
    inferenceStats: {
      success: { count: 3n, ns: 48_000_000n },
      fail: { count: 0n, ns: 0n },
      queue: { count: 3n, ns: 3_000_000n },
      computeInput: { count: 3n, ns: 6_000_000n },
      computeInfer: { count: 3n, ns: 12_000_000n },
      computeOutput: { count: 3n, ns: 24_000_000n },
      cacheHit: { count: 0n, ns: 0n },
      cacheMiss: { count: 0n, ns: 0n },
    },
    batchStats: [1n, 3n].map((batchSize) => ({
      batchSize,
      computeInput: { count: 1n, ns: 2_000_000n },
      computeInfer: { count: 1n, ns: 4_000_000n },
      computeOutput: { count: 1n, ns: 8_000_000n },
    })),
    memoryUsage: [],
  });
});

test('what fails is counted as that alone; what no version was asked for is not counted; a version loaded anew begins anew', () => {
  const statistics = new InferenceStatistics();
  statistics.ended({ version, outcome: 'RESOURCE_EXHAUSTED', phases: { total: 3 } });
  statistics.ended({ version: undefined, outcome: 'NOT_FOUND', phases: { total: 3 } });
  const { inferenceStats, inferenceCount, executionCount } = statistics.of(version);
  assert.deepEqual(inferenceStats?.fail, { count: 1n, ns: 3_000_000n });
  assert.deepEqual([inferenceStats?.success?.count, inferenceStats?.queue?.count], [0n, 0n]);
  assert.deepEqual([inferenceCount, executionCount], [0n, 0n]);
  assert.equal(statistics.of({ ...version } as ServedVersion).inferenceStats?.fail?.count, 0n);
});
