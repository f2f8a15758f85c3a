import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { connectInference, type InferenceRequest } from '../client.js';
import { startServer } from '../server.js';
import type { ServerOptions } from '../options.js';
import { publishGraph } from '../testing/fixture-models.js';
import { pixels, until } from '../testing/live-server.js';
import { temporaryRepository } from '../testing/temporary-repository.js';
import { adjustableDraft, adjustableModel } from './testing/adjustable-model.js';
import { closedLoop, p95Of } from './testing/closed-loop.js';

const request: InferenceRequest = { model: 'net', pixels: pixels(1) };
const series = '{model="net",version="1"}';
const [few, many] = [2, 24];
/** Answers in a stretch of which the 95th percentile is looked at. */
const stretch = 96;
/** Stretches under which the controller must have found the budget. */
const patience = 40;

/**
 * Nothing here is an absolute time: the objective is a half of what many clients wait for without the controller, and how long a stretch is goes by
 * answers. So it is the same test on a machine of any speed, and on one that has other work.
 */
test('a step in load: with the controller the objective holds, without it it does not', async (context) => {
  const { repository, remove } = await temporaryRepository();
  await publishGraph(repository, 'net', adjustableModel(), adjustableDraft);
  const lines: Record<string, unknown>[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const open = async (latencySlo: ServerOptions['latencySlo'] = []) => {
    const options = {
      repository: repository.directory,
      host: '127.0.0.1',
      port: 0,
      metricsPort: 0,
      workers: 1,
      threads: 1,
    };
    const server = await startServer({ ...options, latencySlo }, log);
    const client = connectInference(`127.0.0.1:${server.grpcPort}`);
    /** The values of series at one moment. */
    const metrics = async (...names: string[]) => {
      const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
      const found = names.map((name) => text.split('\n').find((line) => line.startsWith(`${name} `)));
      return found.map((line) => Number(line?.split(' ').at(-1)));
    };
    const metric = async (name: string) => (await metrics(name))[0]!;
    const send = () => client.infer(request);
    const close = async () => {
      client.close();
      await server.stop();
    };
    return { client, send, metric, metrics, close };
  };
  const opened: Awaited<ReturnType<typeof open>>[] = [];
  context.after(async () => {
    for (const server of opened) await server.close();
    await remove();
  });
  const plain = await open();
  opened.push(plain);
  const without = async () => p95Of(await closedLoop(plain.send, many, stretch));

  /** The load steps up; whether the objective held in some stretch with the controller, and to no purpose where it then holds without it too. */
  const attempt = async () => {
    await without();
    const objective = (await without()) / 2;
    lines.length = 0;
    const adapting = await open([{ model: null, ms: objective }]);
    opened.push(adapting);
    const before = p95Of(await closedLoop(adapting.send, few, stretch));
    const during: number[] = [];
    let [raised, told, inSeconds] = [0, 0, 0];
    while (!(during.at(-1)! <= objective && raised > 0) && during.length < patience) {
      during.push(p95Of(await closedLoop(adapting.send, many, stretch)));
      const names = ['controller_budget_nats', 'model_budget_nats', 'controller_objective_seconds'];
      [raised = NaN, told = NaN, inSeconds = NaN] = await adapting.metrics(
        ...names.map((name) => `heartwood_${name}${series}`),
      );
    }
    const after = await without();
    const text = [before, during.at(-1)!, after].map((ms) => ms.toFixed(0)).join(', ');
    context.diagnostic(
      `p95 ${text} ms before the step, with, without; objective ${objective.toFixed(0)} ms, after ${during.length} stretches`,
    );
    return { adapting, objective, before, during, after, raised, told, inSeconds };
  };
  let outcome = await attempt();
  // A machine that has become so much faster meanwhile that it needs no controller shows nothing.
  while (outcome.after <= outcome.objective) {
    await opened.pop()!.close();
    outcome = await attempt();
  }
  const { adapting, objective, before, during, raised, told, inSeconds } = outcome;
  assert.ok(before <= objective, `${before} ms before the step, of ${objective}`);
  assert.ok(during.at(-1)! <= objective, `${during.join(', ')} ms with the controller, of ${objective}`);

  assert.ok(raised > 0 && raised <= 1);
  assert.deepEqual([told, inSeconds], [raised, objective / 1000]);
  // A request that names its budget gets it, whatever the load.
  const own = await adapting.client.infer({ ...request, budget: 0 });
  assert.deepEqual([...(own.outputs['tokens_kept']?.data as Int32Array)], [257]);

  // With the load gone the default comes back.
  await until(async () => {
    await adapting.send();
    return (await adapting.metric(`heartwood_controller_budget_nats${series}`)) === 0;
  });
  const changes = lines.filter(({ event }) => event === 'budget');
  const counted = async (direction: string) =>
    adapting.metric(`heartwood_controller_changes_total{model="net",version="1",direction="${direction}"}`);
  assert.equal((await counted('up')) + (await counted('down')), changes.length, 'every change is a line of the log');
  for (const { level, from, to, reason, msg } of changes) {
    assert.equal(level, 30);
    assert.equal(msg, (to as number) > (from as number) ? 'budget raised' : 'budget lowered');
    assert.match(reason as string, /ms/);
  }
  const turns = changes.filter(({ msg }, at) => at > 0 && msg !== changes[at - 1]?.['msg']).length;
  assert.ok(turns <= 7, `${turns} turns in ${changes.length} changes`);
});
