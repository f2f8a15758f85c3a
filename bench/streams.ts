/**
 * npm run bench:streams [-- --json FILE] [--minutes 2] [--streams 200] [--shape 160m] [--bits 32,8,4] [--pairs 20] [--threads N]
 *                          [--only restless|speed]
 *
 * Restless: streams of text through gRPC that start, stop, cancel, break and come too late at random, each held against the same request
 * alone; then whether any of them left a row, a waiting request or memory behind. Speed: tokens a second through gRPC streams of a server,
 * over those of the bare loop of the same runs in this process: in pairs of about a second each, since the speed of a machine that others
 * use too is only its own for so long, as the median of the pairs' ratios and the interval that holds it 95 times of 100. And whether a
 * token costs more where the cache has more room.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pythiaShapes } from '../libs/models/testing/random-causal.js';
import { textManifest } from '../libs/store/manifest.js';
import { openRepository } from '../libs/store/repository.js';
import { median } from '../libs/pruning/statistics/quantiles.js';
import { connectInference } from '../services/server/client.js';
import { publishSubject } from './support/generation/served-subject.js';
import { subjectOf, type WeightBits, writeSubject } from './support/generation/subject.js';
import { memorySlope, sampleMemory } from './support/memory.js';
import { type Bar, barOf, printBars, writeOutcome } from './support/outcome.js';
import { startServed } from './support/served.js';
import { type BareLoop, openBareLoop } from './support/streams/bare-loop.js';
import { inPairs, pairedRatio } from './support/streams/paired-ratio.js';
import { cases, restlessStreams } from './support/streams/restless.js';
import { streamedRate } from './support/streams/streamed.js';
import { publishRandom, smallShape } from './support/streams/subjects.js';

const { values: options } = parseArgs({
  options: {
    ...{ json: { type: 'string' }, minutes: { type: 'string' }, streams: { type: 'string' } },
    ...{
      shape: { type: 'string' },
      bits: { type: 'string' },
      pairs: { type: 'string' },
      threads: { type: 'string' },
      only: { type: 'string' },
    },
  },
});
const minutes = Math.max(0.1, Number(options.minutes ?? 2));
const lanes = Number(options.streams ?? 200);
const pairs = Math.max(1, Number(options.pairs ?? 20));
/** Of the model; with fewer than there are cores the streams have cores of their own. */
const threads = Math.max(1, Number(options.threads ?? availableParallelism()));
/** Of the tokens of one turn, about. */
const turnSeconds = 1;
const shape = (options.shape ?? '160m') as keyof typeof pythiaShapes;
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const repository = join(folder, 'models');
const rows: unknown[] = [];
const bars: Bar[] = [];
try {
  if (options.only !== 'speed') await restless();
  if (options.only !== 'restless') await speed();
  printBars(bars);
  await writeOutcome(options.json, { bench: 'streams', rows, bars });
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function restless(): Promise<void> {
  await publishRandom(folder, repository, 'small', smallShape);
  const limits = ['--generation-rows', '16', '--generation-queue-limit', String(2 * lanes), '--prefill-chunk', '32'];
  const server = await startServed(repository, [{ name: 'small', versions: [1] }], limits);
  const client = connectInference(server.address);
  try {
    const known = await cases(client, 60);
    const memory = sampleMemory(server, 2000);
    const tally = await restlessStreams(server.address, known, lanes, performance.now() + minutes * 60_000);
    const samples = memory.stop();
    // What is still cancelled is out by the next text.
    await client
      .generate({ ...known[0]!.asked, maxTokens: 1 }, new AbortController().signal)
      [Symbol.asyncIterator]()
      .next();
    const held = await settled(() => server.metric('heartwood_generation_cached_tokens{'));
    const slope = memorySlope(samples.filter(({ minute }) => minute >= minutes / 2));
    const { problems, ...counts } = tally;
    for (const problem of problems.slice(0, 10)) console.error(problem);
    console.log(`${lanes} streams for ${minutes} minutes: ${JSON.stringify(counts)}`);
    rows.push({
      part: 'restless',
      minutes,
      lanes,
      ...counts,
      slope,
      residentMiB: samples.map(({ mib }) => Math.round(mib)),
    });
    bars.push(
      barOf('texts that are not those of the request alone', tally.mixed, '<=', 0),
      barOf('errors that nobody asked for', tally.failed, '<=', 0),
      barOf('tokens that are left in the cache', held, '<=', 0),
      barOf('resident memory in the second half, MiB a minute', slope, '<=', 5),
    );
  } finally {
    client.close();
    await server.stop();
  }
}

/** The metric once it has come to 0, or after some seconds. */
async function settled(metric: () => Promise<number | undefined>): Promise<number> {
  for (let attempt = 0; ; attempt++) {
    const value = (await metric()) ?? NaN;
    if (value === 0 || attempt === 50) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The same tokens with little and with much room behind them: a cache that were copied anywhere would cost by its room. */
async function cacheInPlace(bare: BareLoop, name: string): Promise<void> {
  const [prompt, steps, little] = [64, 32, 128];
  const taken = await inPairs(
    Math.min(5, pairs),
    () => bare.tokensPerSecond(8, prompt, steps),
    () => bare.tokensPerSecond(8, prompt, steps, little),
  );
  const ratios = taken.map(({ a: long, b: short }) => short / long);
  const ratio = median(ratios);
  rows.push({ part: 'cache', model: name, batch: 8, little, ratio, ratios });
  bars.push(
    barOf(`${name}, 8 at a time: ms a token with room for the whole context over room for ${little}`, ratio, '<=', 1.1),
  );
}

async function speed(): Promise<void> {
  const checkpoint = await writeSubject(join(folder, shape), pythiaShapes[shape]);
  for (const bits of (options.bits ?? '32,8,4').split(',').map(Number) as WeightBits[]) {
    const name = `pythia-${shape}-${bits}bit`;
    const subject = await subjectOf(checkpoint, bits, join(folder, `${name}-work`));
    const only = join(folder, `${name}-models`);
    await publishSubject(only, name, subject);
    await rm(subject.workDirectory, { recursive: true, force: true });
    await streamCost(only, name);
    await rm(only, { recursive: true, force: true });
  }
}

async function streamCost(repository: string, name: string): Promise<void> {
  const { manifest, directory } = await (await openRepository(repository)).resolve(name, 1);
  const server = await startServed(
    repository,
    [{ name, versions: [1] }],
    ['--workers', '1', '--threads', String(threads)],
  );
  const client = connectInference(server.address);
  const bare = await openBareLoop(directory, textManifest(manifest), { most: 8, threads });
  try {
    await cacheInPlace(bare, name);
    for (const batch of [1, 8]) {
      const prompt = 64;
      const rate = await bare.tokensPerSecond(batch, prompt, 16);
      const steps = Math.min(512, Math.max(16, Math.round((turnSeconds * rate) / batch)));
      const taken = await inPairs(
        pairs,
        () => bare.tokensPerSecond(batch, prompt, steps),
        () => streamedRate(client, name, batch, prompt, steps),
      );
      const paired = pairedRatio(taken.map(({ a, b }) => b.tokensPerSecond / a));
      const alone = median(taken.map(({ a }) => a));
      const through = median(taken.map(({ b }) => b.tokensPerSecond));
      // The client shares the cores with the runs, as it does not where it is on a machine of its own.
      const clientShare = median(taken.map(({ b }) => b.clientShare));
      const tokensPerPiece = median(taken.map(({ b }) => b.tokensPerPiece));
      console.log(
        `${name}, ${batch} at a time, ${pairs} pairs of ${steps} tokens: ${alone.toFixed(1)} tokens/s bare, ${through.toFixed(1)} through streams ` +
          `(× ${paired.ratio.toFixed(3)}, ${paired.low.toFixed(3)} to ${paired.high.toFixed(3)}), in pieces of ${tokensPerPiece.toFixed(1)} tokens, ` +
          `whose client took ${(100 * clientShare).toFixed(1)} % of the cores`,
      );
      const measured = { bare: alone, streamed: through, steps, clientShare, tokensPerPiece, ...paired };
      rows.push({ part: 'speed', model: name, batch, threads, ...measured });
      bars.push(
        barOf(`${name}, ${batch} at a time: tokens/s through gRPC over the bare loop`, paired.ratio, '>=', 0.97),
      );
    }
  } finally {
    client.close();
    await Promise.all([server.stop(), bare.close()]);
  }
}
