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
import { capacity, held, openLoop } from './testing/open-loop.js';

/** Nothing here is an absolute time: load and objective are ratios to what this machine does in the same minute. */
const request: InferenceRequest = { model: 'net', pixels: pixels(1) };
const series = '{model="net",version="1"}';

test(
  'a step in load: with the controller the objective holds, without it it does not',
  { timeout: 180_000 },
  async (context) => {
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
      const metric = async (name: string) => {
        const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
        return Number(
          text
            .split('\n')
            .find((line) => line.startsWith(`${name} `))
            ?.slice(name.length + 1),
        );
      };
      const send = () => client.infer(request);
      const close = async () => {
        client.close();
        await server.stop();
      };
      return { client, send, metric, close };
    };

    const plain = await open();
    await capacity(plain.send, 4, 20);
    const full = await capacity(plain.send, 4, 80);
    const objective = 15 * (1000 / full);
    // Seven calls come in the time of five: more than the default budget bears, and far fewer than the ceiling does.
    const [light, heavy] = [0.3 * full, 1.4 * full];
    const stepAt = 8 * objective;
    const end = stepAt + 40 * objective;
    const rate = (elapsed: number) => (elapsed < stepAt ? light : heavy);
    const settled = stepAt + 12 * objective;
    const without = held(await openLoop(plain.send, rate, stepAt + 22 * objective), settled, Infinity, objective);
    await plain.close();
    assert.ok(without.p95 > 2 * objective, `without: ${without.p95} ms for an objective of ${objective}`);

    const adapting = await open([{ model: null, ms: objective }]);
    const sent = await openLoop(adapting.send, rate, end);
    const before = held(sent, 0, stepAt, objective);
    const during = held(sent, settled, end, objective);
    context.diagnostic(
      `objective ${objective.toFixed(0)} ms; p95 without ${without.p95.toFixed(0)}, with ${during.p95.toFixed(0)} ms`,
    );
    assert.ok(before.p95 <= objective, `before the step: ${before.p95} ms`);
    assert.ok(during.p95 <= objective, `with the controller: ${during.p95} ms for an objective of ${objective}`);

    const raised = await adapting.metric(`heartwood_controller_budget_nats${series}`);
    assert.ok(raised > 0 && raised <= 1);
    assert.equal(await adapting.metric(`heartwood_model_budget_nats${series}`), raised);
    assert.equal(await adapting.metric(`heartwood_controller_objective_seconds${series}`), objective / 1000);
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
    await adapting.close();
    await remove();
  },
);
