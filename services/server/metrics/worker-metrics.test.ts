import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { liveServer, rawRequest, until } from '../testing/live-server.js';

const memory = (name: string) => `heartwood_process_resident_memory_bytes{process="${name}"}`;
const restarts = 'heartwood_worker_restarts_total{worker="0"}';

/** Processes that this one has started, with their commands. */
function children(): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const parent = /\) \S (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];
        if (Number(parent) !== process.pid) return [];
        return [{ pid: Number(pid), command: readFileSync(`/proc/${pid}/cmdline`, 'utf8') }];
      } catch {
        return [];
      }
    });
}

test('each process has its memory, and a worker that dies is counted', async (context) => {
  const live = await liveServer({ isolation: 'process', workers: 1 });
  context.after(() => live.stop());
  assert.equal(await live.metric(restarts), 0);
  const [server, worker] = await Promise.all([live.metric(memory('server')), live.metric(memory('worker-0'))]);
  assert.ok(server > 1e7 && worker > 1e7 && server !== worker, `${server} and ${worker} bytes`);

  const [victim, ...others] = children().filter(({ command }) => command.includes('runtime'));
  assert.ok(victim && others.length === 0);
  process.kill(victim.pid, 'SIGKILL');
  await until(async () => (await live.metric(restarts)) === 1);
  await live.raw.modelInfer(rawRequest(1));
  assert.ok((await live.metric(memory('worker-0'))) > 1e7);
});

test('workers that are threads have no memory of their own', async (context) => {
  const live = await liveServer({ workers: 1 });
  context.after(() => live.stop());
  const found = [...(await live.metrics()).matchAll(/^heartwood_process_resident_memory_bytes\{process="(.*?)"\}/gm)];
  assert.deepEqual(
    found.map(([, name]) => name),
    ['server'],
  );
});
