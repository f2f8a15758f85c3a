import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { HeartwoodError } from '../../errors/error.js';
import type { Database } from '../database/database.js';
import { openEmbedded } from '../database/embedded.js';
import { openPostgresql } from '../database/postgresql.js';
import { type Entered, MATRIX_STAGES, type MatrixRequest, matrixWork } from '../testing/matrix-work.js';
import { findPostgresql, startPostgresql, type TestPostgresql } from '../testing/postgresql.js';
import type { JobRecord } from './job.js';
import { JobQueue } from './job-queue.js';
import type { JobContext } from './job-run.js';
import { JobStore } from './job-store.js';
import { Jobs, type OpenJobsOptions } from './jobs.js';
import { pendingStage } from './stage-tracker.js';

const REQUEST: MatrixRequest = { seed: 7, size: 8, steps: 20 };
const root = mkdtempSync(join(tmpdir(), 'heartwood-jobs-'));
after(() => rmSync(root, { recursive: true, force: true }));
const coded = (code: string, text: RegExp) => (error: unknown) =>
  error instanceof HeartwoodError && error.code === code && text.test(error.message);
const forever = new AbortController().signal;

async function last(watched: AsyncIterable<JobRecord>): Promise<JobRecord> {
  let job: JobRecord | undefined;
  for await (job of watched);
  return job!;
}

/** Resolves when the work comes to a step, and holds it there until released or aborted. */
function gate(stage: string, step: number) {
  let reached!: () => void;
  let release!: () => void;
  const arrival = new Promise<void>((resolve) => (reached = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const entered: Entered = async (at, done) => {
    if (at !== stage || done !== step) return;
    reached();
    await released;
  };
  return { entered, arrival, release };
}

const server: { current?: TestPostgresql } = {};
const binaries = findPostgresql();
before(async () => {
  if (binaries) server.current = await startPostgresql(binaries);
});
after(() => server.current?.stop());

for (const kind of ['embedded', 'postgresql'] as const) {
  const skip = kind === 'postgresql' && !binaries ? 'PostgreSQL is not installed (apt-get install postgresql)' : false;
  describe(`jobs over ${kind}`, { skip }, () => {
    const directory = join(root, kind);
    const opened: Jobs[] = [];
    const url = () => (kind === 'postgresql' ? { database: server.current!.url } : {});
    async function open(entered?: Entered, options: Partial<OpenJobsOptions> = {}): Promise<Jobs> {
      const work = (request: unknown, context: JobContext) => matrixWork(request as MatrixRequest, context, entered);
      const jobs = await Jobs.open({ directory, ...url(), work, heartbeatMs: 50, pollMs: 50, ...options });
      opened.push(jobs);
      return jobs;
    }
    async function close(jobs: Jobs): Promise<void> {
      opened.splice(opened.indexOf(jobs), 1);
      await jobs.close();
    }
    /** The database by itself, as a worker that then dies would have it. */
    async function lowLevel(
      leaseSeconds: number,
    ): Promise<{ database: Database; store: JobStore; close(): Promise<void> }> {
      const database =
        kind === 'embedded'
          ? await openEmbedded(join(directory, 'database'))
          : await openPostgresql(server.current!.url);
      const queue = await JobQueue.start(database, () => undefined);
      const end = async () => {
        await queue.stop();
        await database.close();
      };
      return { database, store: new JobStore(database, queue, leaseSeconds), close: end };
    }
    afterEach(async () => {
      for (const jobs of opened.splice(0)) await jobs.close();
    });

    test('a job runs through its stages to its result, and a watcher sees it to the end', async () => {
      const jobs = await open();
      const created = await jobs.create(REQUEST, MATRIX_STAGES, 'first');
      const revisions: number[] = [];
      const states: string[] = [];
      let job!: JobRecord;
      for await (job of jobs.watch(created.id, forever)) {
        revisions.push(job.revision);
        states.push(job.state);
      }
      assert.equal(job.state, 'succeeded');
      assert.deepEqual(
        revisions,
        [...new Set(revisions)].sort((a, b) => a - b),
      );
      assert.deepEqual(
        states,
        [...states].sort(
          (a, b) => ['queued', 'running', 'succeeded'].indexOf(a) - ['queued', 'running', 'succeeded'].indexOf(b),
        ),
      );
      assert.deepEqual(
        job.stages.map(({ name, state, done, total, resumed }) => [name, state, done, total, resumed]),
        [
          ['draw', 'done', 8, 8, false],
          ['iterate', 'done', 20, 20, false],
          ['plan', 'done', 1, 1, false],
        ],
      );
      assert.equal((job.result as { order: number[] }).order.length, 8);
      assert.ok(job.startedAt! >= job.createdAt && job.endedAt! >= job.startedAt!);
      assert.deepEqual(await last(jobs.watch(created.id, forever)), job, 'watching an ended job gives it once more');
      assert.deepEqual(await jobs.get(job.id), job);
      // The result is told first, then the folder goes; a worker that has closed has done both.
      for (const each of opened.splice(0)) await each.close();
      assert.ok(!existsSync(join(directory, 'jobs', job.id)), 'its folder is gone');
    });

    test('a request id makes one job, whatever the order of the keys, and refuses another request', async () => {
      const jobs = await open();
      const [one, two] = await Promise.all([
        jobs.create(REQUEST, MATRIX_STAGES, 'same'),
        jobs.create(REQUEST, MATRIX_STAGES, 'same'),
      ]);
      const { seed, size, steps } = REQUEST;
      const three = await jobs.create({ steps, size, seed, extra: undefined }, MATRIX_STAGES, 'same');
      assert.deepEqual([two.id, three.id], [one.id, one.id]);
      await assert.rejects(
        jobs.create({ ...REQUEST, seed: 8 }, MATRIX_STAGES, 'same'),
        coded('ALREADY_EXISTS', /request_id: "same"/),
      );
      const other = await jobs.create(REQUEST, MATRIX_STAGES);
      assert.notEqual(other.id, one.id);
      const results = await Promise.all(
        [one.id, other.id].map(async (id) => (await last(jobs.watch(id, forever))).result),
      );
      assert.deepEqual(results[0], results[1]);
    });

    test('bad ids are refused, and errors of the work keep their code', async () => {
      const jobs = await open();
      await assert.rejects(jobs.get('../x'), coded('INVALID_ARGUMENT', /^id: expected/));
      await assert.rejects(jobs.cancel('00000000-0000-0000-0000-000000000000'), coded('NOT_FOUND', /no such job/));
      const wrong = await jobs.create({ ...REQUEST, size: 0 }, MATRIX_STAGES);
      const failed = await last(jobs.watch(wrong.id, forever));
      assert.deepEqual(
        [failed.state, failed.error],
        ['failed', { code: 'INVALID_ARGUMENT', message: 'size: expected at least 1, got 0' }],
      );
      const defect = await jobs.create(null, MATRIX_STAGES);
      assert.equal((await last(jobs.watch(defect.id, forever))).error?.code, 'INTERNAL');
    });

    test('cancelling ends a queued job and a running one at once, for good', async () => {
      const { entered, arrival, release } = gate('iterate', 3);
      const jobs = await open(entered);
      const running = await jobs.create(REQUEST, MATRIX_STAGES);
      await arrival;
      const queued = await jobs.create(REQUEST, MATRIX_STAGES);
      assert.equal((await jobs.cancel(queued.id)).state, 'cancelled');
      const cancelled = await jobs.cancel(running.id);
      assert.deepEqual([cancelled.state, cancelled.result], ['cancelled', null]);
      release();
      const next = await jobs.create(REQUEST, MATRIX_STAGES);
      assert.equal((await last(jobs.watch(next.id, forever))).state, 'succeeded', 'the worker goes on with the next');
      assert.equal((await jobs.get(running.id)).state, 'cancelled');
      assert.equal((await jobs.get(queued.id)).attempts, 0);
      assert.equal((await jobs.cancel(next.id)).state, 'succeeded', 'an ended job stays as it is');
      await close(jobs);
      assert.deepEqual(readdirSync(join(directory, 'jobs')), []);
    });

    test('a job interrupted by a stop goes on from its last checkpoint to the same result', async () => {
      const { entered, arrival, release } = gate('iterate', 5);
      const first = await open(entered);
      const { id } = await first.create(REQUEST, MATRIX_STAGES);
      await arrival;
      const closing = close(first);
      release();
      await closing;
      const computed: string[] = [];
      const second = await open((stage) => void computed.push(stage));
      const job = await last(second.watch(id, forever));
      const undisturbed = await second.create(REQUEST, MATRIX_STAGES);
      assert.deepEqual(job.result, (await last(second.watch(undisturbed.id, forever))).result);
      assert.ok(!computed.slice(0, 21).includes('draw'), 'the completed stage was not computed again');
      assert.deepEqual(
        job.stages.map(({ resumed }) => resumed),
        [true, false, false],
      );
      assert.deepEqual([job.attempts, job.deaths], [2, 0]);
    });

    test('a job whose worker died is taken up again; one whose worker dies three times in a row fails', async () => {
      const dead = await lowLevel(kind === 'embedded' ? 3600 : 0);
      const { job } = await dead.store.create(REQUEST, [], 'orphan');
      const hopeless = (await dead.store.create(REQUEST, [], 'hopeless')).job;
      for (const id of [job.id, hopeless.id]) assert.equal((await dead.store.claim(id, 'dead'))?.state, 'running');
      await dead.database.query('UPDATE heartwood.jobs SET deaths = 2 WHERE id = $1', [hopeless.id]);
      const stages = ['draw', 'iterate'].map(pendingStage);
      const begun = [
        { ...stages[0]!, state: 'done' as const },
        { ...stages[1]!, state: 'running' as const },
      ];
      assert.ok(await dead.store.saveStages(hopeless.id, 'dead', begun, false));
      assert.equal(await dead.store.claim(job.id, 'second'), undefined, 'a job has one worker');
      await dead.close();
      const jobs = await open();
      const resumed = await last(jobs.watch(job.id, forever));
      assert.deepEqual([resumed.state, resumed.attempts], ['succeeded', 2]);
      assert.deepEqual((await jobs.get(hopeless.id)).error, {
        code: 'INTERNAL',
        message:
          'the worker died 3 times in a row without completing a stage, last in iterate (is there enough memory for it?)',
      });
    });

    test('jobs are listed newest first, by state and in pages', async () => {
      const jobs = await open();
      const ids: string[] = [];
      for (let index = 0; index < 5; index++) ids.push((await jobs.create({ ...REQUEST, size: 0 }, [])).id);
      for (const id of ids) await last(jobs.watch(id, forever));
      const first = await jobs.list({ states: ['failed'], limit: 3 });
      const second = await jobs.list({ states: ['failed'], limit: 2, before: first.at(-1)!.sequence });
      assert.deepEqual(
        [...first, ...second].map(({ id }) => id),
        ids.reverse(),
      );
      assert.ok((await jobs.list({ states: ['succeeded'], limit: 50 })).every(({ state }) => state === 'succeeded'));
      const counts = await jobs.count();
      assert.ok(counts.failed >= 5 && counts.queued === 0 && counts.running === 0);
    });

    test('a watcher that goes away ends its watch', async () => {
      const { entered, arrival, release } = gate('draw', 2);
      const jobs = await open(entered);
      const { id } = await jobs.create(REQUEST, MATRIX_STAGES);
      await arrival;
      const abort = new AbortController();
      await assert.rejects(
        async () => {
          for await (const job of jobs.watch(id, abort.signal)) if (job.state === 'running') abort.abort();
        },
        { name: 'AbortError' },
      );
      release();
      assert.equal((await last(jobs.watch(id, forever))).state, 'succeeded');
    });

    test(
      'several processes share the jobs: each runs once, and any may cancel',
      { skip: kind === 'embedded' && 'one process only' },
      async () => {
        const held = gate('draw', 2);
        const left = await open(held.entered);
        const running = await left.create(REQUEST, MATRIX_STAGES);
        await held.arrival;
        const right = await open();
        const others = await Promise.all(Array.from({ length: 6 }, () => right.create(REQUEST, MATRIX_STAGES)));
        for (const { id } of others)
          assert.equal((await last(left.watch(id, forever))).attempts, 1, 'the other worker takes them');
        assert.equal((await right.cancel(running.id)).state, 'cancelled');
        held.release();
        const more = await left.create(REQUEST, MATRIX_STAGES);
        assert.equal((await last(right.watch(more.id, forever))).state, 'succeeded');
        assert.equal((await left.get(running.id)).state, 'cancelled');
      },
    );
  });
}

test('a database out of reach, or of another kind, is one clear line without its password', async () => {
  const at = (database: string) => Jobs.open({ directory: root, database });
  const line = coded('UNAVAILABLE', /^database 127\.0\.0\.1:1\/x: .*ECONNREFUSED/);
  await assert.rejects(
    at('postgres://user:secret@127.0.0.1:1/x'),
    (error: Error) => line(error) && !error.message.includes('secret'),
  );
  await assert.rejects(
    at('mysql://localhost/x'),
    coded('INVALID_ARGUMENT', /expected a URL that begins with postgres:\/\//),
  );
  await assert.rejects(at('nonsense'), coded('INVALID_ARGUMENT', /^database: expected a URL/));
});

test('an embedded database has one process at a time', async () => {
  const directory = join(root, 'embedded');
  const jobs = await Jobs.open({ directory });
  await assert.rejects(Jobs.open({ directory }), coded('FAILED_PRECONDITION', /in use by process/));
  await jobs.close();
  await (await Jobs.open({ directory })).close();
});
