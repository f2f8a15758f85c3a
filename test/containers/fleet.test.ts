/** Pruner, PostgreSQL, server and Prometheus as containers: the main job, and what happens when parts of it die. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { openDataset } from '../../libs/data/open.js';
import { openCheckpoint } from '../../libs/models/checkpoint.js';
import { type Job, JobState, type PruneWish, StageState } from '../../services/pruner/client.js';
import { readmeQueries, root } from '../monitoring/files.js';
import { Fleet } from './fleet.js';
import { exitCode, killContainer } from './locked-container.js';

const wish: PruneWish = {
  modelDirectory: '/app/models/demo-digits',
  data: 'demo:digits',
  name: 'digits',
  lossBudget: 0.2,
  units: ['tokens'],
  samples: 100,
};

let fleet: Fleet;
let images: Uint8Array[];
before(async () => {
  fleet = await Fleet.start();
  const { preprocessing } = await openCheckpoint(join(root, 'models/demo-digits'));
  const digits = await openDataset('demo:digits/test', preprocessing);
  images = await Promise.all([0, 1, 2, 3].map(async (index) => (await digits.image(index))!));
});
after(() => fleet?.stop());

/** Follows a job to its end, with a word to who wants to know of each change. */
async function followed(id: string, onChange: (job: Job) => void = () => undefined): Promise<Job> {
  let last: Job | undefined;
  for await (const job of fleet.pruning.watch(id, { patienceMs: 600_000 })) onChange((last = job));
  return last!;
}

/** The version that a job came to. */
async function versionOf(job: Job): Promise<number> {
  assert.equal(job.state, JobState.JOB_STATE_SUCCEEDED, `${job.error?.message}\n${await fleet.log('pruner')}`);
  return job.result!.version;
}

/** The classes that a version says of the images. */
async function classesBy(version: number): Promise<number[]> {
  const { outputs } = await fleet.inference.infer({ model: 'digits', version, images });
  const { data, dims } = outputs['logits']!;
  const [rows, classes] = dims as [number, number];
  return Array.from({ length: rows }, (_, row) => {
    const logits = Array.from(data as Float32Array).slice(row * classes, (row + 1) * classes);
    return logits.indexOf(Math.max(...logits));
  });
}

const ready = async (version: number): Promise<void> => {
  while (!(await fleet.inference.modelReady('digits', version).catch(() => false))) await pause(100);
};

describe('pruner, PostgreSQL, server and Prometheus', { timeout: 1_700_000 }, () => {
  test('a job submitted from outside ends with a new version served beside the unpruned one', async () => {
    const { id } = await fleet.pruning.create(wish, 'first');
    const job = await followed(id);
    assert.equal(await versionOf(job), 2);
    assert.equal(job.attempts, 1);
    await Promise.all([1, 2].map(ready));
    const [dense, pruned] = [await classesBy(1), await classesBy(2)];
    assert.equal(dense.length, images.length);
    // Four images that a network of this accuracy does not get wrong; pruned under a fifth of a nat it may lose one.
    assert.ok(dense.filter((digit, at) => digit === pruned[at]).length >= images.length - 1);
  });

  test('Prometheus answers the README’s comparison of the two', async () => {
    const [comparison] = readmeQueries('Metrics');
    const compared = new Set<string>();
    while (compared.size < 4) {
      for (const version of [1, 2]) await classesBy(version);
      const asked = new URLSearchParams({ query: comparison! }).toString();
      const response = await fetch(`${fleet.prometheusUrl}/api/v1/query?${asked}`);
      const { data } = (await response.json()) as {
        data: { result: { metric: Record<string, string>; value: [number, string] }[] };
      };
      for (const { metric, value } of data.result) {
        assert.equal(metric['model'], 'digits');
        if (Number(value[1]) > 0) compared.add(`${metric['measure']} ${metric['version']}`);
      }
    }
    const measures = ['items_per_compute_second', 'p95_seconds'];
    // A machine with a power meter tells of joules as well.
    const known = [...compared].filter((name) => !name.startsWith('joules')).sort();
    assert.deepEqual(
      known,
      measures.flatMap((measure) => [`${measure} 1`, `${measure} 2`]),
    );
  });

  test('a server that was killed comes back with the same versions and answers', async () => {
    const answers = await classesBy(2);
    await killContainer(fleet.id('server'));
    assert.equal(await exitCode(fleet.id('server')), 137);
    await assert.rejects(classesBy(2), { code: 'UNAVAILABLE' });
    await fleet.startAgain('server');
    await Promise.all([1, 2].map(ready));
    assert.deepEqual(await classesBy(2), answers);
  });

  test('a pruner that was killed in the middle of a stage goes on from the stage before', async () => {
    const { id } = await fleet.pruning.create(wish, 'killed');
    let killed: Promise<void> | undefined;
    const kept: string[] = [];
    const job = await followed(id, ({ stages }) => {
      const at = stages.findIndex(({ name }) => name === 'predictor');
      if (killed !== undefined || stages[at]?.state !== StageState.STAGE_STATE_RUNNING) return;
      kept.push(...stages.slice(0, at).map(({ name }) => name));
      killed = killContainer(fleet.id('pruner')).then(() => fleet.startAgain('pruner'));
    });
    await killed;
    const version = await versionOf(job);
    assert.ok(kept.length > 0, 'it was killed');
    assert.equal(job.attempts, 2);
    // The stage that it was seen at may have been completed by the time that the kill came, and is then kept too.
    const resumed = job.stages.filter(({ resumed }) => resumed).map(({ name }) => name);
    const names = job.stages.map(({ name }) => name);
    assert.deepEqual(resumed, names.slice(0, resumed.length), 'kept is what came before');
    assert.ok(resumed.length >= kept.length && resumed.length < names.length, `${resumed.join()} of ${names.join()}`);
    await ready(version);
  });

  test('a network cut of 20 s between pruner and PostgreSQL loses no job', async () => {
    const { id } = await fleet.pruning.create(wish, 'cut');
    let cut: Promise<void> | undefined;
    const job = await followed(id, ({ stages }) => {
      if (
        cut !== undefined ||
        !stages.some(({ name, state }) => name === 'score' && state === StageState.STAGE_STATE_RUNNING)
      )
        return;
      cut = (async () => {
        await fleet.cut('postgresql');
        await pause(20_000);
        await fleet.mend('postgresql');
      })();
    });
    assert.ok(cut !== undefined);
    await cut;
    await versionOf(job);
    // Nothing was computed twice: the worker held on to its job.
    assert.equal(job.attempts, 1);
    const { jobs } = await fleet.pruning.list();
    assert.deepEqual(jobs.map(({ requestId }) => requestId).sort(), ['cut', 'first', 'killed']);
    assert.ok(jobs.every(({ state }) => state === JobState.JOB_STATE_SUCCEEDED));
    // And the queue is alive: one more goes through.
    const after = await fleet.pruning.create(wish, 'after');
    await ready(await versionOf(await followed(after.id)));
  });

  test('SIGTERM drains a running stream of the server, which ends with 0', async () => {
    let more = true;
    let sent = 0;
    async function* requests() {
      for (; more; sent++) yield { model: 'digits', version: 2, images: [images[sent % images.length]!] };
    }
    let answered = 0;
    let told: Promise<void> | undefined;
    for await (const answer of fleet.inference.stream(requests())) {
      assert.ok('outputs' in answer, JSON.stringify(answer));
      // In the middle of traffic.
      if (++answered === 20) told = killContainer(fleet.id('server'), 'SIGTERM');
    }
    more = false;
    await told;
    assert.equal(await exitCode(fleet.id('server')), 0, await fleet.log('server'));
    assert.ok(answered >= 20);
    assert.match(await fleet.log('server'), /"event":"stopped"/);
  });
});
