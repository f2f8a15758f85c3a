import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { monitoring, root, textOf } from './files.js';

const run = promisify(execFile);
const missing = await run('promtool', ['--version']).then(
  () => false,
  () => 'promtool is not installed (Debian: prometheus)',
);
const promtool = async (...parameters: string[]) => (await run('promtool', parameters, { cwd: monitoring })).stdout;

test('promtool takes the rules and the configuration', { skip: missing }, async () => {
  const told = await promtool(
    'check',
    'rules',
    '--lint=all',
    '--lint-fatal',
    'recording-rules.yml',
    'alerting-rules.yml',
  );
  assert.equal(told.match(/SUCCESS: \d+ rules found/g)?.length, 2, told);
  assert.match(await promtool('check', 'config', 'prometheus.yml'), /SUCCESS: 2 rule files found/);
});

test('the rules do what their tests say', { skip: missing }, async () => {
  assert.match(await promtool('test', 'rules', 'alerting-rules.test.yml'), /SUCCESS/);
});

test('every alert has a test in which it fires', () => {
  const alerts = [...textOf('deploy/monitoring/alerting-rules.yml').matchAll(/- alert: (\w+)/g)].map(
    ([, name]) => name!,
  );
  assert.ok(alerts.length >= 6);
  const cases = textOf('deploy/monitoring/alerting-rules.test.yml').split('- eval_time:');
  for (const alert of alerts) {
    const firing = cases.filter((text) => text.includes(`alertname: ${alert}\n`) && text.includes('exp_alerts:'));
    assert.ok(firing.length > 0, `${alert} fires in no test`);
  }
});

test('the dashboard is what its table makes', async () => {
  await run(process.execPath, [join(root, 'scripts/generate-dashboard.mjs'), '--check']);
});
