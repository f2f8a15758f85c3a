/** Some hundreds of hostile requests and some dozens of tampered models; `npm run bench:fuzz` sends thousands. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fuzzModels } from '../bench/support/fuzz/model-run.js';
import { fuzzRequests } from '../bench/support/fuzz/request-run.js';
import { makeSubjects } from '../bench/support/fuzz/subjects.js';
import type { Repository } from '../libs/store/repository.js';

const seed = 11;
let folder: string;
let repository: Repository;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'heartwood-fuzz-'));
  repository = await makeSubjects(folder);
});
after(() => rm(folder, { recursive: true, force: true }));

test('hostile requests: a proper code each, no crash, and a good one is answered rightly all along', async () => {
  const { sent, faults, crashes, complaints, exitCode } = await fuzzRequests(repository, { seed, count: 300 });
  assert.deepEqual({ faults, complaints, crashes, exitCode }, { faults: [], complaints: [], crashes: 0, exitCode: 0 });
  assert.equal(sent, 300);
});

for (const isolation of ['process', 'thread'] as const) {
  test(`tampered models (${isolation}): refused with a reason or answering, and the healthy one beside them goes on`, async () => {
    const run = await fuzzModels(repository, { seed, count: 30, isolation });
    const { faults, complaints, crashes, exitCode } = run;
    assert.deepEqual(
      { faults, complaints, crashes, exitCode },
      { faults: [], complaints: [], crashes: 0, exitCode: 0 },
    );
    assert.equal(run.mutants, 30);
    assert.ok(run.rows.some(({ outcomes }) => 'not loaded: INVALID_ARGUMENT' in outcomes));
  });
}
