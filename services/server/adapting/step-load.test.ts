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
  { timeout: 300_000 },
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

    // On a machine that others use too the capacity may change under a load that was fitted to it: then the run shows nothing, and another
    // one is made. A controller that does not hold the objective fails all of them.
    const attempt = async () => {
      const plain = await open();
      await capacity(plain.send, 16, 32);
      const full = await capacity(plain.send, 16, 112);
      const objective = 15 * (1000 / full);
      // More than the default budget bears, and far less than the ceiling does.
      const [light, heavy] = [0.3 * full, 1.35 * full];
      const stepAt = 8 * objective;
      const end = stepAt + 40 * objective;
      const rate = (elapsed: number) => (elapsed < stepAt ? light : heavy);
      const settled = stepAt + 12 * objective;
      const without = held(await openLoop(plain.send, rate, stepAt + 22 * objective), settled, Infinity, objective);
      await plain.close();
      lines.length = 0;
      const adapting = await open([{ model: null, ms: objective }]);
      const sent = await openLoop(adapting.send, rate, end);
      const [before, during] = [held(sent, 0, stepAt, objective), held(sent, settled, end, objective)];
      const text = `p95 ${[before, without, during].map(({ p95 }) => p95.toFixed(0)).join(', ')} ms before the step, without, with`;
      context.diagnostic(`${text}; objective ${objective.toFixed(0)} ms`);
      const holds = without.p95 > objective && before.p95 <= objective && during.p95 <= objective;
      return { adapting, objective, holds };
    };
    let outcome = await attempt();
    for (let again = 1; again < 3 && !outcome.holds; again++) {
      await outcome.adapting.close();
      outcome = await attempt();
    }
    const { adapting, objective, holds } = outcome;
    context.after(async () => {
      await adapting.close();
      await remove();
    });
    assert.ok(holds, 'the objective holds with the controller, and does not without');

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
