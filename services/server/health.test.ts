import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type CallContext, type Client, createClient, Status } from 'nice-grpc';
import {
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthDefinition,
} from '../../proto/gen/grpc/health/v1/health.js';
import { openChannel } from '../grpc/channel.js';
import { Health, liveness } from '../grpc/health.js';
import { meanModel, publishGraph } from './testing/fixture-models.js';
import { liveServer, type LiveServer, refused, until } from './testing/live-server.js';

const { SERVING, NOT_SERVING, SERVICE_UNKNOWN } = ServingStatus;
let live: LiveServer;
let health: Client<HealthDefinition>;
before(async () => {
  live = await liveServer();
  health = createClient(HealthDefinition, live.channel);
});
after(() => live.stop());

const check = async (service: string) => (await health.check({ service })).status;

/** The states that a watch tells, one at a time. */
function watch(service: string, client = health): () => Promise<ServingStatus | undefined> {
  const states = client.watch({ service })[Symbol.asyncIterator]();
  return async () => {
    const next: IteratorResult<HealthCheckResponse> = await states.next();
    return next.done === true ? undefined : next.value.status;
  };
}

test('the server, its services, its models and versions each have a state', async () => {
  const names = ['', 'inference.GRPCInferenceService', 'heartwood.serving.v1.ServingService', 'net', 'net/1', 'net/2'];
  for (const name of names) assert.equal(await check(name), SERVING, name);
  for (const name of ['absent', 'net/3', 'net/', '../net', 'x'.repeat(10_000)])
    await refused(health.check({ service: name }), Status.NOT_FOUND, /^service: nothing here by that name$/);
  const { statuses } = await health.list({});
  for (const name of names) assert.deepEqual(statuses[name], { status: SERVING }, name);
});

test('a process is alive before it has loaded anything, and knows of nothing else that is SERVING', async () => {
  const loading = new Health();
  loading.announce(['some.Service']);
  const { statuses } = await loading.service().list({}, {} as CallContext);
  const states = Object.fromEntries(Object.entries(statuses ?? {}).map(([name, answer]) => [name, answer?.status]));
  assert.deepEqual(states, { '': NOT_SERVING, 'some.Service': NOT_SERVING, [liveness]: SERVING });
  assert.equal(await check(liveness), SERVING);
});

test('a version that cannot be loaded is NOT_SERVING, the model goes on by another one', async () => {
  await publishGraph(live.repository, 'fragile', meanModel());
  await live.repository.publish('fragile', async (directory) => {
    await appendFile(join(directory, 'model.onnx'), 'not a model');
    return { ...(await live.repository.readManifest('fragile', 1)), parent: 1 };
  });
  const listed = () => live.client.listVersions('fragile').catch(() => []);
  await until(async () => (await listed()).some(({ reason }) => reason !== ''));
  assert.deepEqual(await Promise.all(['fragile', 'fragile/1', 'fragile/2'].map(check)), [
    SERVING,
    SERVING,
    NOT_SERVING,
  ]);
  // A pin on it leaves requests without a version with nothing.
  await live.client.promote('fragile', 2);
  assert.equal(await check('fragile'), NOT_SERVING);
});

test('who watches is told of a model that comes, and of a version that goes', async () => {
  const [model, second] = [watch('later'), watch('later/2')];
  assert.deepEqual([await model(), await second()], [SERVICE_UNKNOWN, SERVICE_UNKNOWN]);
  await publishGraph(live.repository, 'later', meanModel());
  for (let state = await model(); state !== SERVING; state = await model()) assert.equal(state, NOT_SERVING);
  await publishGraph(live.repository, 'later', meanModel(1), { parent: 1 });
  for (let state = await second(); state !== SERVING; state = await second()) assert.equal(state, NOT_SERVING);
  await live.repository.remove('later', 2);
  assert.equal(await second(), SERVICE_UNKNOWN);
  assert.equal(await check('later'), SERVING);
});

test('a stop says NOT_SERVING for every name before the port closes, then ends the watches', async () => {
  const stopping = await liveServer({ stopDelayMs: 3000 });
  // A channel of its own: the server's is closed by the test's own stop.
  const { channel } = openChannel(stopping.address);
  const client = createClient(HealthDefinition, channel);
  try {
    const watches = ['', 'inference.GRPCInferenceService', 'net', 'net/1'].map((name) => watch(name, client));
    assert.deepEqual(await Promise.all(watches.map((next) => next())), [SERVING, SERVING, SERVING, SERVING]);
    const stopped = stopping.stop();
    assert.deepEqual(await Promise.all(watches.map((next) => next())), [
      NOT_SERVING,
      NOT_SERVING,
      NOT_SERVING,
      NOT_SERVING,
    ]);
    // The port still answers while balancers take note.
    for (const [name, { status }] of Object.entries((await client.list({})).statuses))
      assert.equal(status, name === liveness ? SERVING : NOT_SERVING, name);
    for (const next of watches) await refused(next(), Status.UNAVAILABLE, /the server is stopping/);
    await stopped;
  } finally {
    channel.close();
  }
});
