import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { createChannel, createClient } from 'nice-grpc';
import sharp from 'sharp';
import { agxOrin } from '../../../libs/energy/testing/boards.js';
import { moving } from '../../../libs/energy/testing/moving-board.js';
import { type Classification, ServingServiceDefinition } from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { ServerOptions } from '../options.js';
import { startServer } from '../server.js';
import { temporaryRepository } from '../testing/temporary-repository.js';
import { liveServer, type LiveServer, rawRequest, until } from '../testing/live-server.js';

async function served(context: TestContext, options: Partial<ServerOptions>): Promise<LiveServer> {
  const live = await liveServer(options);
  context.after(() => live.stop());
  return live;
}

/** The sum of a metric's series; undefined where there is none. */
function sumOf(text: string, name: string, labels = ''): number | undefined {
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  const values = lines.filter((line) => line.includes(labels)).map((line) => Number(line.split(' ').at(-1)));
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0);
}

test('the joules of the requests and of nobody are what the meter of an AGX Orin counts', async (context) => {
  const board = agxOrin(6);
  const { extra } = await moving(board, context);
  const live = await served(context, { energyRoot: board.root, energySampleHz: 50 });
  // Two seconds of idling: the board's own swings are in what is learnt from it.
  await until(async () => (sumOf(await live.metrics(), 'heartwood_energy_joules_total', 'rail="total"') ?? 0) > 2 * 23);

  // What the board takes more, it takes while there is always a request.
  const load = 40;
  const spent = (text: string) => sumOf(text, 'heartwood_inference_energy_joules_sum') ?? 0;
  const metered = (text: string) => sumOf(text, 'heartwood_inference_energy_joules_count') ?? 0;
  const round = async () => {
    const earlier = await live.metrics();
    let sent = 0;
    extra(load);
    const begin = performance.now();
    const client = async (version: string) => {
      for (; performance.now() - begin < 2000; sent++)
        await live.raw.modelInfer(rawRequest(4, { modelVersion: version }));
    };
    await Promise.all([client('1'), client('2')]);
    extra(0);
    const seconds = (performance.now() - begin) / 1000;
    // The joules of a frame are answered once the meter has told of it, and so of all that ran before.
    const { joules } = await classified(context, live);
    const text = await live.metrics();
    const share = (spent(text) - spent(earlier) - (joules ?? 0)) / (load * seconds);
    return { text, joules, share, all: metered(text) - metered(earlier) === sent + 1 };
  };
  // Where this machine is so busy that the meter is late a request has no joules rather than guessed ones; where it has other work between the
  // requests, what the board takes meanwhile is nobody's. But nearly all of the load is theirs, but for the board's own swing.
  let { text, joules, share, all } = await round();
  for (let rounds = 1; rounds < 10 && !(all && share > 0.4 && share < 1.3); rounds++)
    ({ text, joules, share, all } = await round());
  assert.ok(all, 'each request has joules');
  assert.ok(joules !== undefined && joules >= 0, 'a frame has joules');
  assert.ok(share > 0.4 && share < 1.3, `${share} of the load`);
  const requests = spent(text);
  const nobody = sumOf(text, 'heartwood_energy_unattributed_joules_total')!;
  const total = sumOf(text, 'heartwood_energy_joules_total', 'rail="total"')!;
  assert.ok(Math.abs(requests + nobody - total) <= 0.01 * total, `${requests} + ${nobody}, metered ${total}`);
  for (const version of ['1', '2']) {
    const labels = `model="net",version="${version}"`;
    assert.ok(sumOf(text, 'heartwood_inference_energy_joules_sum', labels)! > 0);
  }
  const rails = ['VDD_GPU_SOC', 'VDD_CPU_CV', 'VIN_SYS_5V0'].map((rail) => `rail="${rail}"`);
  const parts = rails.map((rail) => sumOf(text, 'heartwood_energy_joules_total', rail)!);
  assert.ok(Math.abs(parts.reduce((sum, part) => sum + part) - total) <= 1e-6 * total);
  assert.ok(sumOf(text, 'heartwood_power_watts', 'rail="VDDQ_VDD2_1V8AO"')! > 0);
  assert.equal(sumOf(text, 'heartwood_clock_hertz', 'device="gpu"'), 612e6);
  assert.equal(sumOf(text, 'heartwood_gpu_load_ratio'), 0.437);
  assert.equal(sumOf(text, 'heartwood_temperature_celsius', 'zone="tj"'), 49.5);
  assert.equal(sumOf(text, 'heartwood_temperature_celsius', 'zone="cv0"'), undefined);
  assert.equal(sumOf(text, 'heartwood_power_mode_info', 'id="2",name="MODE_30W"'), 1);
});

/** One frame's answer, its joules asked for. */
async function classified(context: TestContext, { grpcPort }: LiveServer): Promise<Classification> {
  const channel = createChannel(`127.0.0.1:${grpcPort}`);
  context.after(() => channel.close());
  const image = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  const request = { settings: { model: 'net', energy: true }, frame: { id: 'a', image } };
  for await (const { classification } of createClient(ServingServiceDefinition, channel).classify(
    Readable.from([request]),
  ))
    return classification!;
  return assert.fail('no answer');
}

test('where nothing is metered there are no values', async (context) => {
  const root = mkdtempSync(join(tmpdir(), 'heartwood-board-'));
  context.after(() => rmSync(root, { recursive: true }));
  const live = await served(context, { energyRoot: root });
  await live.raw.modelInfer(rawRequest(1));
  assert.doesNotMatch(
    await live.metrics(),
    /^heartwood_(power|energy|inference_energy|idle_power|clock|gpu_load|temperature)[^ ]*[ {].*\d$/m,
  );
});

test('a meter that was named and is not there is no server', async (context) => {
  const root = mkdtempSync(join(tmpdir(), 'heartwood-board-'));
  context.after(() => rmSync(root, { recursive: true }));
  const { repository, remove } = await temporaryRepository();
  context.after(remove);
  const ports = { repository: repository.directory, port: 0, metricsPort: 0 };
  await assert.rejects(startServer({ ...ports, energyRoot: root, energyMeter: 'ina3221', logLevel: 'silent' }), {
    code: 'FAILED_PRECONDITION',
    message: /^energy meter ina3221: .*no monitor/,
  });
});
