/** `heartwood serve`, the server as a process of its own: what it says, how it keeps its event loop free, how it ends. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Repository } from '../libs/store/repository.js';
import { freePort } from '../libs/store/testing/free-port.js';
import { connectInference } from '../services/server/client.js';
import { heavyModel, meanModel, publishGraph } from '../services/server/testing/fixture-models.js';
import { temporaryRepository } from '../services/server/testing/temporary-repository.js';

let repository: Repository;
let remove: () => Promise<void>;
const children = new Set<ChildProcess>();

before(async () => {
  ({ repository, remove } = await temporaryRepository());
  await publishGraph(repository, 'heavy', heavyModel());
  await publishGraph(repository, 'net', meanModel());
});

after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await remove();
});

interface ServerProcess {
  readonly child: ChildProcess;
  readonly address: string;
  readonly metricsUrl: string;
  /** Every line of its log so far. */
  readonly log: Record<string, unknown>[];
  readonly ended: Promise<number | null>;
}

/** Node's arguments for a server on free ports. */
function serve(...more: string[]): string[] {
  const command = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
  const options = { repository: repository.directory, host: '127.0.0.1', port: 0, 'metrics-port': 0, 'poll-ms': 50 };
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return [command, 'serve', ...flags, ...more];
}

interface Spawned extends Pick<ServerProcess, 'child' | 'log' | 'ended'> {
  /** The log line that names its ports; rejects where it ends without. */
  readonly ready: Promise<Record<string, unknown>>;
}

function spawnServer(...more: string[]): Spawned {
  const child = spawn(process.execPath, serve(...more), { stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  const ended = once(child, 'exit').then(([code]) => {
    children.delete(child);
    return code as number | null;
  });
  const log: Record<string, unknown>[] = [];
  const ready = new Promise<Record<string, unknown>>((resolve, reject) => {
    createInterface({ input: child.stderr }).on('line', (text) => {
      let line: Record<string, unknown>;
      try {
        line = JSON.parse(text) as Record<string, unknown>;
      } catch {
        line = { unreadable: text };
      }
      log.push(line);
      if (line['event'] === 'ready') resolve(line);
    });
    void ended.then((code) => reject(new Error(`the server ended with ${code}: ${JSON.stringify(log)}`)));
  });
  // Not everybody waits for it.
  ready.catch(() => undefined);
  return { child, log, ended, ready };
}

/** Starts a server and waits for the log line that names its ports. */
async function startProcess(...more: string[]): Promise<ServerProcess> {
  const { child, log, ended, ready } = spawnServer(...more);
  const { grpcPort, metricsPort } = await ready;
  const url = (port: unknown) => `127.0.0.1:${String(port)}`;
  return { child, address: url(grpcPort), metricsUrl: `http://${url(metricsPort)}/metrics`, log, ended };
}

async function metric(url: string, name: string): Promise<number> {
  const line = (await (await fetch(url)).text()).split('\n').find((text) => text.startsWith(`${name} `));
  assert.ok(line, `/metrics has no ${name}`);
  return Number(line.split(' ')[1]);
}

/** Requests for the heavy model that wait or run. */
async function pendingHeavy(url: string): Promise<number> {
  const labels = '{model="heavy",version="1"}';
  const gauges = ['queue_length', 'running_requests'].map((gauge) => metric(url, `heartwood_model_${gauge}${labels}`));
  const [waiting = 0, running = 0] = await Promise.all(gauges);
  return waiting + running;
}

const heavyRequest = (batch = 1) => ({
  model: 'heavy',
  pixels: { dims: [batch, 3, 224, 224], data: new Float32Array(batch * 3 * 224 * 224).fill(0.5) },
});

test('the event loop never waits for an inference of ViT-B’s size', async () => {
  // On one thread, so that it takes its time on any machine.
  const server = await startProcess('--threads', '1');
  const client = connectInference(server.address);
  await client.infer(heavyRequest());
  const shares: number[] = [];
  // Other processes may hold the loop up in one round; an inference on the loop would do so in every one, for half of the time that two take.
  for (let round = 0; round < 8 && !shares.some((share) => share < 0.25); round++) {
    // A scrape starts the gauge anew.
    await metric(server.metricsUrl, 'nodejs_eventloop_lag_max_seconds');
    const started = performance.now();
    await Promise.all([client.infer(heavyRequest()), client.infer(heavyRequest())]);
    const took = performance.now() - started;
    shares.push(((await metric(server.metricsUrl, 'nodejs_eventloop_lag_max_seconds')) * 1000) / took);
    assert.ok(took > 150, `two inferences took ${took} ms: too quick to tell`);
  }
  assert.ok(Math.min(...shares) < 0.25, `the longest gaps were ${shares.join(', ')} of the time of two inferences`);
  client.close();
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('on SIGTERM it answers what is under way, takes nothing more, and ends with 0', async () => {
  const server = await startProcess();
  const client = connectInference(server.address);
  await client.infer(heavyRequest());
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  async function* openStream() {
    yield heavyRequest();
    await held;
  }
  const answers = client.stream(openStream())[Symbol.asyncIterator]();
  const streamed = answers.next();
  const single = client.infer(heavyRequest());
  // The requests have arrived when they are counted as waiting or running.
  while ((await pendingHeavy(server.metricsUrl)) < 2);
  server.child.kill('SIGTERM');
  assert.equal((await single).outputs['logits']?.dims[0], 1);
  const { value } = await streamed;
  assert.ok(value !== undefined && 'outputs' in value, 'the stream’s request was answered');
  assert.equal((await answers.next()).done, true, 'the stream was ended in order');
  release();
  assert.equal(await server.ended, 0);
  assert.equal(server.child.signalCode, null);
  assert.equal(server.log.at(-1)?.['event'], 'stopped');
  await assert.rejects(client.infer(heavyRequest()), { code: 'UNAVAILABLE' });
  client.close();
});

test('on SIGTERM while versions are still being loaded it ends with 0 too, and was never ready', async () => {
  const port = await freePort();
  const { child, log, ended } = spawnServer('--metrics-port', String(port));
  const loading = async (): Promise<boolean> => {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
    return /^heartwood_model_ready\{model="heavy",version="1"\} 0$/m.test((await response?.text()) ?? '');
  };
  while (!(await loading())) assert.equal(child.exitCode, null, JSON.stringify(log));
  child.kill('SIGTERM');
  assert.equal(await ended, 0);
  assert.equal(child.signalCode, null);
  const events = log.map(({ event }) => event);
  assert.ok(!events.includes('ready'), 'the versions were loaded already');
  assert.equal(events.at(-1), 'stopped');
});

test('explicit load control by flags: only the models that are named are loaded, cold where that is wanted', async () => {
  const server = await startProcess('--load-control', 'explicit', '--load-model', 'net', '--no-warm-up');
  const client = connectInference(server.address);
  assert.equal(await client.modelReady('net'), true);
  assert.equal(await client.modelReady('heavy'), false);
  await assert.rejects(client.infer(heavyRequest()), {
    code: 'UNAVAILABLE',
    message: 'version 1 of heavy: it is not loaded',
  });
  client.close();
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('a request that is cancelled while it waits never runs', async () => {
  const server = await startProcess();
  const client = connectInference(server.address);
  const labels = '{model="heavy",version="1"}';
  const pending = () => pendingHeavy(server.metricsUrl);
  const first = client.infer(heavyRequest(3));
  while ((await pending()) < 1);
  const controller = new AbortController();
  const second = client.infer(heavyRequest(), controller.signal);
  while ((await pending()) < 2);
  controller.abort();
  await assert.rejects(second, { code: 'CANCELLED' });
  await first;
  const cancelled = 'heartwood_inference_requests_total{model="heavy",version="1",outcome="CANCELLED"}';
  assert.equal(await metric(server.metricsUrl, cancelled), 1);
  assert.equal(await metric(server.metricsUrl, `heartwood_inference_items_total${labels}`), 3);
  client.close();
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
});

test('it says on stderr, as JSON, what it does, and picks up a version published by another process', async () => {
  const server = await startProcess();
  const client = connectInference(server.address);
  await client.waitUntilReady(300_000);
  assert.deepEqual((await client.modelMetadata('net')).versions, ['1']);
  await publishGraph(repository, 'net', meanModel(5), { parent: 1 });
  while (!(await client.modelReady('net', 2)));
  const pixels = { dims: [1, 3, 8, 8], data: new Float32Array(192) };
  const { version, outputs } = await client.infer({ model: 'net', pixels });
  assert.deepEqual([version, outputs['logits']?.data], [2, Float32Array.of(5, 5, 5)]);
  client.close();
  server.child.kill('SIGTERM');
  assert.equal(await server.ended, 0);
  assert.equal(server.child.stdout?.read(), null);
  assert.ok(
    server.log.every((line) => !('unreadable' in line)),
    JSON.stringify(server.log),
  );
  const loaded = server.log
    .filter(({ msg }) => msg === 'version loaded')
    .map(({ model, version: v }) => [model, v].join(' '));
  assert.deepEqual(loaded, ['heavy 1', 'net 1', 'net 2']);
});

for (const isolation of ['thread', 'process']) {
  test(`a log that nobody reads holds up neither requests nor the stop, workers as a ${isolation}`, async () => {
    const model = `unread-${isolation}`;
    const pipe = join(repository.directory, '..', `${model}.log`);
    assert.equal(spawnSync('mkfifo', [pipe]).status, 0);
    const ours = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
    // An end of the server's own, which waits where it is not told otherwise.
    const end = openSync(pipe, constants.O_WRONLY);
    const child = spawn(process.execPath, serve('--isolation', isolation), { stdio: ['ignore', 'ignore', end] });
    closeSync(end);
    children.add(child);
    const ended = once(child, 'exit');
    let text = '';
    while (!/"event":"ready".*\n/.test(text)) {
      assert.equal(child.exitCode, null, text);
      text += taken(ours);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const port = /"grpcPort":(\d+)/.exec(text)?.[1];
    const client = connectInference(`127.0.0.1:${port}`);
    fill(ours);
    // Lines are written when it is loaded.
    await publishGraph(repository, model, meanModel());
    while (!(await client.modelReady(model)));
    const { version } = await client.infer({ model, pixels: { dims: [1, 3, 8, 8], data: new Float32Array(192) } });
    assert.equal(version, 1);
    client.close();
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    children.delete(child);
    closeSync(ours);
  });
}

/** What there is to read. */
function taken(pipe: number): string {
  const buffer = Buffer.alloc(65_536);
  try {
    return buffer.toString('utf8', 0, readSync(pipe, buffer));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
    return '';
  }
}

/** Writes until not a byte more goes in. */
function fill(pipe: number): void {
  for (const bytes of [4096, 1]) {
    const piece = Buffer.alloc(bytes, 'x');
    assert.throws(
      () => {
        for (;;) writeSync(pipe, piece);
      },
      { code: 'EAGAIN' },
    );
  }
}
