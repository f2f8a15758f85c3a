/**
 * npm run bench:capacity [-- --json FILE] [--seconds 30] [--threads N] [--text 160m]
 *
 * What `heartwood capacity` foretells against what a real server comes to: ViT-B/16 with random weights, unpruned and with stages, and a
 * language model in the shape of Pythia. The server has both versions of the one and the caches of the other; it is driven at full batches and
 * with as many texts as it has rows, each over the whole of the (shortened) context. Resident memory is the most that was seen.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pythiaShapes } from '../libs/models/testing/random-causal.js';
import { connectInference } from '../services/server/client.js';
import { greedy } from '../services/server/generation/request.js';
import { runCommand } from '../services/cli/run.js';
import { publishSubject } from './support/generation/served-subject.js';
import { promptOf, subjectOf, writeSubject } from './support/generation/subject.js';
import { sampleMemory } from './support/memory.js';
import { barOf, printBars, writeOutcome } from './support/outcome.js';
import { rawClient } from './support/raw-client.js';
import { publishPair } from './support/served-pair.js';
import { closedLoop, inferPath, pixelRequest, startServed, type ServedProcess } from './support/served.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    seconds: { type: 'string', default: '30' },
    threads: { type: 'string' },
    text: { type: 'string', default: '160m' },
  },
});
const seconds = Math.max(1, Number(options.seconds));
const threads = String(Math.max(1, Number(options.threads ?? availableParallelism())));
const [rows, context] = [8, 256];
const folder = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
try {
  const results = [await ofImages(), await ofText()];
  for (const { subject, steadyMiB, residentMiB } of results)
    console.log(`${subject}: foretold ${steadyMiB.toFixed(0)} MiB, resident ${residentMiB.toFixed(0)} MiB at most`);
  const bars = results.flatMap(({ subject, steadyMiB, residentMiB }) => [
    barOf(`${subject}: resident ÷ foretold`, residentMiB / steadyMiB, '<=', 1.1),
    barOf(`${subject}: resident ÷ foretold`, residentMiB / steadyMiB, '>=', 0.75),
  ]);
  printBars(bars);
  await writeOutcome(options.json, { bench: 'capacity', rows: results, bars });
} finally {
  await rm(folder, { recursive: true, force: true });
}

interface Result {
  readonly subject: string;
  readonly steadyMiB: number;
  readonly residentMiB: number;
}

async function ofImages(): Promise<Result> {
  const repository = join(folder, 'images');
  await publishPair(repository, folder, 'vit-base', 0.5);
  const settings = ['--workers', '1', '--threads', threads];
  const steadyMiB = await foretold(repository, settings);
  const served = await startServed(repository, [{ name: 'vit-base', versions: [1, 2] }], settings);
  const client = rawClient(served.address);
  try {
    const requests = [1, 2].map((version) => pixelRequest('vit-base', version, 8, 224));
    const residentMiB = await mostWhile(served, async () => {
      const end = performance.now() + 1000 * seconds;
      while (performance.now() < end)
        await closedLoop(4, 8, (index) => client.call(inferPath, requests[index % requests.length]!));
    });
    return { subject: 'vit-base, 2 versions', steadyMiB, residentMiB };
  } finally {
    client.close();
    await served.stop();
  }
}

async function ofText(): Promise<Result> {
  const name = `pythia-${options.text}`;
  const shape = pythiaShapes[options.text as keyof typeof pythiaShapes];
  const repository = join(folder, 'text');
  const checkpoint = await writeSubject(join(folder, 'checkpoint'), shape);
  const subject = await subjectOf(checkpoint, 32, join(folder, 'work'));
  await publishSubject(repository, name, subject);
  const caches = ['--generation-rows', String(rows), '--generation-context', String(context)];
  const settings = ['--workers', '1', '--threads', threads, ...caches];
  const steadyMiB = await foretold(repository, settings);
  const served = await startServed(repository, [{ name, versions: [1] }], settings);
  const client = connectInference(served.address);
  try {
    const residentMiB = await mostWhile(served, async () => {
      const texts = Array.from({ length: rows }, async (_, at) => {
        const prompt = promptOf(context - 64, subject.spec.vocabulary, at + 1);
        const asked = { model: name, prompt, sampling: greedy, maxTokens: 63, ignoreEos: true };
        for await (const event of client.generate(asked, new AbortController().signal)) void event;
      });
      await Promise.all(texts);
    });
    return { subject: `${name}, ${rows} texts of ${context} tokens`, steadyMiB, residentMiB };
  } finally {
    client.close();
    await served.stop();
  }
}

/** The most that the server had in memory while `work` was done. */
async function mostWhile(served: ServedProcess, work: () => Promise<void>): Promise<number> {
  const memory = sampleMemory(served, 250);
  try {
    await work();
  } finally {
    memory.stop();
  }
  return Math.max(...memory.stop().map(({ mib }) => mib));
}

/** What the command says, MiB. */
async function foretold(repository: string, settings: readonly string[]): Promise<number> {
  const file = join(folder, 'capacity.json');
  const { stdout, stderr } = process;
  const { signal } = new AbortController();
  const code = await runCommand(['capacity', '--repository', repository, ...settings, '--json', file], {
    stdout,
    stderr,
    signal,
  });
  if (code !== 0) throw new Error(`heartwood capacity ended with ${code}`);
  const { estimate } = JSON.parse(await readFile(file, 'utf8')) as { estimate: { steadyBytes: number } };
  return estimate.steadyBytes / 2 ** 20;
}
