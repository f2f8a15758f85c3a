/**
 * npm run bench:overload [-- --json FILE] [--seconds 60] [--queue 16] [--threads N]
 *
 * Open-loop load at twice the capacity. Requests come at their own times, whatever becomes of those before, so a server that took them
 * all would fall behind for ever. Those that are accepted are to be answered within what the queue before them takes and their own
 * service; the rest are to be refused at once, next to what a refusal by the bare gRPC library takes; and memory is to stay flat.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { status } from '@grpc/grpc-js';
import { importBaseline } from '../libs/pruning/baseline.js';
import { vitTiny, writeRandomCheckpoint } from '../libs/models/testing/random-checkpoint.js';
import { median, quantileOrNaN as quantile } from '../libs/pruning/statistics/quantiles.js';
import { memorySlope, sampleMemory } from './support/memory.js';
import { barOf, printBars, writeOutcome } from './support/outcome.js';
import { rawClient, refusePath, type Reply } from './support/raw-client.js';
import { closedLoop, inferPath, pixelRequest, startBare, startServed } from './support/served.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    seconds: { type: 'string' },
    queue: { type: 'string' },
    threads: { type: 'string' },
  },
});
const seconds = Math.max(1, Number(options.seconds ?? 60));
const queueLimit = Math.max(1, Number(options.queue ?? 16));
// A core is left to the client, which twice the capacity keeps busy, and to the refusing.
const threads = Math.max(1, Number(options.threads ?? availableParallelism() - 1));
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const repository = join(folder, 'models');
try {
  const modelDirectory = await writeRandomCheckpoint(join(folder, 'vit-tiny'), vitTiny);
  const context = { workDirectory: join(folder, 'import'), signal: new AbortController().signal };
  await importBaseline({ modelDirectory, repository, name: 'vit-tiny' }, context);
  const server = await startServed(
    repository,
    [{ name: 'vit-tiny', versions: [1] }],
    ['--workers', '1', '--threads', String(threads), '--run-batch', '1', '--queue-limit', String(queueLimit)],
  );
  const bare = await startBare();
  const [client, refuser] = [rawClient(server.address), rawClient(bare.address)];
  try {
    const request = pixelRequest('vit-tiny', 1, 1, 224);
    const call = (): Promise<Reply> => client.call(inferPath, request);
    await closedLoop(2, 20, call);
    // What the server can do while a client is busy too: two calls under way keep its worker busy.
    const { wallMs } = await closedLoop(2, 100, call);
    const capacity = 100_000 / wallMs;
    const alone = await closedLoop(1, 40, call);
    const memory = sampleMemory(server, 1000);
    const { replies, refusals } = await openLoop(2 * capacity, call, () => refuser.call(refusePath, request));
    const samples = memory.stop();
    const accepted = replies.filter(({ code }) => code === status.OK).map(({ ms }) => ms);
    const refused = replies.filter(({ code }) => code === status.RESOURCE_EXHAUSTED).map(({ ms }) => ms);
    const others = replies.length - accepted.length - refused.length;
    // Before a request that is accepted stand those that wait and the one under way: what the server took for as many answers, at the
    // mean of the minute; and, since the machine's speed changes within it, for those very answers that came before this one.
    const allowedMs = ((queueLimit + 2) * 1000 * seconds) / accepted.length;
    const ends = replies.filter(({ code }) => code === status.OK).sort((a, b) => a.at - b.at);
    const shares = ends.slice(queueLimit + 2).map(({ ms, at }, index) => ms / (at - ends[index]!.at));
    const row = {
      seconds,
      queueLimit,
      capacity,
      offered: replies.length,
      accepted: accepted.length,
      refused: refused.length,
      others,
      p50: median(accepted),
      p99: quantile(accepted, 0.99),
      allowedMs,
      unloadedP50: median(alone.latencies),
      refusedP50: median(refused),
      bareRefusedP50: median(refusals),
      residentMiB: samples.map(({ mib }) => Math.round(mib)),
    };
    console.log(
      `${row.offered} requests in ${seconds} s at twice ${capacity.toFixed(1)} a second: ${row.accepted} accepted ` +
        `(p50 ${row.p50.toFixed(0)} ms, p99 ${row.p99.toFixed(0)} ms of ${allowedMs.toFixed(0)} ms allowed), ` +
        `${row.refused} refused (p50 ${row.refusedP50.toFixed(1)} ms; bare ${row.bareRefusedP50.toFixed(1)} ms), ` +
        `${others} others; resident ${row.residentMiB[0]} → ${row.residentMiB.at(-1)} MiB`,
    );
    const bars = [
      barOf('p99 of the accepted ÷ the time of the answers before it', quantile(shares, 0.99), '<=', 1.1),
      barOf('p99 of the accepted ÷ queue and service at the mean rate', row.p99 / allowedMs, '<=', 1),
      barOf('median refusal over a bare refusal, ms', row.refusedP50 - row.bareRefusedP50, '<=', 10),
      barOf('answers that are neither', others, '<=', 0),
      barOf('accepted ÷ capacity', accepted.length / seconds / capacity, '>=', 0.8),
      barOf('resident, MiB a minute in the second half', memorySlope(samples.slice(samples.length >> 1)), '<=', 10),
    ];
    printBars(bars);
    await writeOutcome(options.json, { bench: 'overload', rows: [row], bars });
  } finally {
    client.close();
    refuser.close();
    bare.stop();
    await server.stop();
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}

/** Calls at `rate` a second for all the seconds; with every twentieth, one that the bare server refuses. */
async function openLoop(rate: number, call: () => Promise<Reply>, refuse: () => Promise<Reply>) {
  const replies: (Reply & { readonly at: number })[] = [];
  const refusals: number[] = [];
  const underway = new Set<Promise<void>>();
  const interval = 1000 / rate;
  const begun = performance.now();
  let sent = 0;
  const send = (): void => {
    const done: Promise<void> = call().then((reply) => {
      replies.push({ ...reply, at: performance.now() });
      underway.delete(done);
    });
    underway.add(done);
    if (sent++ % 20 === 0) void refuse().then(({ ms }) => refusals.push(ms));
  };
  for (;;) {
    const elapsed = performance.now() - begun;
    if (elapsed > 1000 * seconds) break;
    // The times are the load's own: what a busy event loop missed is made up for.
    while (sent * interval <= elapsed) send();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, sent * interval - elapsed)));
  }
  await Promise.all(underway);
  return { replies, refusals };
}
