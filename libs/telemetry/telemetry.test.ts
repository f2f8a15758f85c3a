import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { Counter, createRegistry, serveMetrics } from './metrics.js';

test('/metrics serves the registry and nothing else, on a free port', async (context) => {
  const registry = createRegistry();
  new Counter({ name: 'rings_total', help: 'Growth rings.', registers: [registry] }).inc(3);
  const endpoint = await serveMetrics(registry, 0, '127.0.0.1');
  let open = true;
  context.after(() => (open ? endpoint.close() : undefined));
  const url = `http://127.0.0.1:${endpoint.port}`;
  const page = await fetch(`${url}/metrics?x=1`);
  assert.match(page.headers.get('content-type') ?? '', /text\/plain; version=/);
  const text = await page.text();
  assert.match(text, /^rings_total 3$/m);
  assert.match(text, /^process_resident_memory_bytes \d+/m);
  assert.equal((await fetch(url)).status, 404);
  assert.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
  await assert.rejects(serveMetrics(registry, endpoint.port, '127.0.0.1'), {
    code: 'UNAVAILABLE',
    message: /metrics port \d+/,
  });
  await endpoint.close();
  open = false;
  await assert.rejects(fetch(`${url}/metrics`));
});

test('two registries count for themselves', async () => {
  const [first, second] = [createRegistry(), createRegistry()];
  new Counter({ name: 'rings_total', help: 'Growth rings.', registers: [first] }).inc();
  assert.doesNotMatch(await second.metrics(), /rings_total/);
});

test('the log is JSON on stderr, stdout stays empty, and the line before an exit is not lost', () => {
  const module = JSON.stringify(new URL('./log.js', import.meta.url).href);
  const script = `const { createLogger } = await import(${module});
    const log = createLogger('oak', 'info');
    log.debug('unseen'); log.info({ port: 1 }, 'up'); process.exit(3);`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.equal(status, 3);
  assert.equal(stdout, '');
  const lines = stderr.trim().split('\n');
  assert.equal(lines.length, 1);
  const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  assert.deepEqual([line['name'], line['level'], line['msg'], line['port']], ['oak', 'info', 'up', 1]);
});

test('a log that nobody reads holds nobody up, and says what it dropped once somebody does', async () => {
  const module = JSON.stringify(new URL('./log.js', import.meta.url).href);
  const script = `const { createLogger } = await import(${module});
    const log = createLogger('oak', 'info');
    for (let i = 0; i < 50_000; i++) log.info({ i }, 'again');
    process.stdout.write('written');
    process.stdin.once('data', () => { log.info({ last: true }, 'done'); process.exit(3); });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  const lines: Record<string, unknown>[] = [];
  const reader = createInterface({ input: child.stderr });
  const closed = once(reader, 'close');
  reader.on('line', (text) => {
    const line = JSON.parse(text) as Record<string, unknown>;
    lines.push(line);
    if ('dropped' in line) child.stdin.write('end');
  });
  assert.deepEqual(await ended, [3, null]);
  await closed;
  const kept = lines.filter(({ msg }) => msg === 'again').length;
  assert.ok(kept > 1000 && kept < 50_000, `${kept} lines were kept`);
  const dropped = lines.find((line) => 'dropped' in line);
  assert.equal(dropped?.['dropped'], 50_000 - kept);
  assert.equal(lines.at(-1)?.['last'], true);
});
