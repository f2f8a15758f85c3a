/**
 * npm run bench:scale [-- --json FILE] [--model DIR --data DATA] [--samples N] [--shard-samples N] [--hands 1,2,4] [--rounds N]
 *
 * Curvature as shared work: one job by a pruner alone, then by the pruner and 1, 3, … workers, all processes on this machine with one thread
 * each, on a PostgreSQL server of the benchmark's own (Debian's package). The time is that of the stage `score`; then a worker is killed by
 * SIGKILL at a random moment with a shard in hand. Every plan is compared with the first. Processor time is that of all processes until the
 * stage was done: where others load the machine it still says what sharing costs.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { openPostgresql } from '../libs/store/database/postgresql.js';
import { openRepository } from '../libs/store/repository.js';
import { findPostgresql, startPostgresql } from '../libs/store/testing/postgresql.js';
import { connectPruning, type Job, JobState, StageState } from '../services/pruner/client.js';
import { barOf, printBars, writeOutcome } from './support/outcome.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    model: { type: 'string', default: fileURLToPath(new URL('../../models/demo-digits', import.meta.url)) },
    data: { type: 'string', default: 'demo:digits' },
    samples: { type: 'string', default: '1000' },
    'shard-samples': { type: 'string', default: '16' },
    hands: { type: 'string', default: '1,2,4' },
    rounds: { type: 'string', default: '1' },
  },
});
const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
const leaseSeconds = 2;
const cores = availableParallelism();

interface Row {
  readonly hands: number;
  readonly round: number;
  readonly killed: boolean;
  readonly scoreSeconds: number;
  /** Of all processes, a killed one excepted. */
  readonly cpuSeconds: number;
  readonly samePlan: boolean;
}
interface Service {
  readonly child: ChildProcess;
  readonly exited: Promise<unknown>;
  readonly port: number;
}

const binaries = findPostgresql();
if (!binaries) throw new Error('PostgreSQL is not installed (apt-get install postgresql)');
const root = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const server = await startPostgresql(binaries);
const database = await openPostgresql(server.url);
const rows: Row[] = [];
const services = new Set<Service>();
let first: string | undefined;
try {
  const counts = options.hands.split(',').map(Number);
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const hands of counts) rows.push(await measure(hands, round, false));
    const most = Math.max(...counts);
    if (most > 1) rows.push(await measure(most, round, true));
  }
} finally {
  for (const service of services) await end(service, 'SIGKILL');
  await database.close();
  await server.stop();
  await rm(root, { recursive: true, force: true });
}
const bars = report();
await writeOutcome(options.json, { bench: 'scale', rows, bars });

/** One job by so many processes: the pruner, and workers for the rest. */
async function measure(hands: number, round: number, killed: boolean): Promise<Row> {
  const folder = join(root, `${hands}-${round}-${killed}`);
  const workers: Service[] = [];
  for (let at = 1; at < hands; at++) workers.push(await start('worker', []));
  const folders = ['--repository', join(folder, 'models'), '--data-directory', join(folder, 'jobs')];
  const pruner = await start('pruner', [...folders, '--port', '0']);
  const client = connectPruning(`127.0.0.1:${pruner.port}`);
  let job: Job | undefined;
  const computed = () => [...services].reduce((sum, { child }) => sum + cpuOf(child.pid!), 0);
  const before = computed();
  let cpuSeconds: number | undefined;
  try {
    const { id } = await client.create({
      modelDirectory: resolve(options.model),
      data: options.data.startsWith('demo:') ? options.data : resolve(options.data),
      name: 'model',
      lossBudget: 0.05,
      samples: Number(options.samples),
      shardSamples: Number(options['shard-samples']),
      seed: 1,
    });
    const death = killed ? killOne(workers, id) : undefined;
    for await (job of client.watch(id)) {
      if (cpuSeconds !== undefined || scoreOf(job)?.state !== StageState.STAGE_STATE_DONE) continue;
      cpuSeconds = computed() - before;
    }
    await death;
  } finally {
    client.close();
  }
  for (const service of [pruner, ...workers]) await end(service, 'SIGTERM');
  if (job?.state !== JobState.JOB_STATE_SUCCEEDED) throw new Error(job?.error?.message ?? 'the job has not succeeded');
  const { plan, files } = await (await openRepository(join(folder, 'models'))).readManifest('model', 2);
  const text = JSON.stringify([plan, files]);
  first ??= text;
  const scoreSeconds = scoreOf(job)!.seconds;
  console.log(`${hands} hands${killed ? ', one killed' : ''}: scored in ${scoreSeconds.toFixed(1)} s`);
  return { hands, round, killed, scoreSeconds, cpuSeconds: cpuSeconds ?? NaN, samePlan: text === first };
}

function scoreOf({ stages }: Job) {
  return stages.find(({ name }) => name === 'score');
}

/** Seconds that a process has computed, in all its threads (proc(5): utime and stime, in hundredths). */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Kills a worker that has a shard in hand, once a random share of the shards is done. */
async function killOne(workers: readonly Service[], job: string): Promise<void> {
  const share = 0.6 * Math.random();
  for (;;) {
    const [state] = await database.query<{ done: number; total: number; held: string[] | null }>(
      `SELECT count(*) FILTER (WHERE state = 'done')::integer AS done, count(*)::integer AS total,
       array_agg(worker) FILTER (WHERE state = 'running') AS held FROM heartwood.shards WHERE job = $1`,
      [job],
    );
    const { done, total, held } = state!;
    const victim = workers.find(({ child }) => held?.some((worker) => worker.includes(`-${child.pid}-`)));
    if (total > 0 && done >= share * total && victim) {
      console.log(`SIGKILL after ${done} of ${total} shards`);
      return end(victim, 'SIGKILL');
    }
    await new Promise((wait) => setTimeout(wait, 10));
  }
}

async function start(command: 'pruner' | 'worker', argv: readonly string[]): Promise<Service> {
  const common = ['--host', '127.0.0.1', '--metrics-port', '0', '--threads', '1', '--database', server.url];
  const child = spawn(process.execPath, [main, command, ...common, '--lease-seconds', String(leaseSeconds), ...argv], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  const port = await new Promise<number>((found, failed) => {
    void exited.then(() => failed(new Error(`the ${command} ended before it was ready`)));
    createInterface({ input: child.stderr }).on('line', (line) => {
      const entry = JSON.parse(line) as { event?: string; grpcPort?: number };
      if (entry.event === 'ready') found(entry.grpcPort ?? 0);
    });
  });
  const service = { child, exited, port };
  services.add(service);
  return service;
}

async function end(service: Service, signal: NodeJS.Signals): Promise<void> {
  if (!services.delete(service)) return;
  service.child.kill(signal);
  await service.exited;
}

function report() {
  const head = ['hands', 'score, s', 'of ideal, N hands', `of ideal, ${cores} cores`, 'CPU, s', 'same plan'];
  const table = new Table({
    head,
    colAligns: head.map(() => 'right'),
    style: { head: [], border: [], compact: true },
  });
  const bars = [
    barOf('plans that are the first, bit for bit', rows.filter(({ samePlan }) => samePlan).length, '>=', rows.length),
  ];
  const median = (hands: number, killed: boolean, of = (row: Row) => row.scoreSeconds) => {
    const times = rows.filter((row) => row.hands === hands && row.killed === killed).map(of);
    return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  };
  const alone = median(1, false);
  for (const hands of new Set(rows.map((row) => row.hands))) {
    for (const killed of [false, true]) {
      const seconds = median(hands, killed);
      if (seconds === undefined) continue;
      const same = rows.filter((row) => row.hands === hands && row.killed === killed).every((row) => row.samePlan);
      const ratio = (ideal: number) => (alone === undefined ? '' : (alone / ideal / seconds).toFixed(2));
      const name = killed ? `${hands}, one killed` : String(hands);
      const cpu = median(hands, killed, ({ cpuSeconds }) => cpuSeconds)!.toFixed(1);
      table.push([name, seconds.toFixed(1), ratio(hands), ratio(Math.min(hands, cores)), cpu, same ? 'yes' : 'NO']);
      if (alone !== undefined && hands > 1 && !killed) {
        const ideal = Math.min(hands, cores);
        bars.push(
          barOf(`${hands} hands: share of ${ideal} times one hand's speed`, alone / ideal / seconds, '>=', 0.8),
        );
      }
    }
    const [whole, broken] = [median(hands, false), median(hands, true)];
    if (whole !== undefined && broken !== undefined)
      console.log(
        `a worker killed cost ${(broken - whole).toFixed(1)} s of ${whole.toFixed(1)} (lease ${leaseSeconds} s)`,
      );
  }
  console.log(table.toString());
  printBars(bars);
  return bars;
}
