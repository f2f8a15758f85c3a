import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { probeProvider } from '../../libs/runtime/providers/probe.js';
import { createLogger } from '../../libs/telemetry/log.js';
import { startPruner } from '../pruner/pruner.js';
import { liveServer } from '../server/testing/live-server.js';

test('a server whose provider cannot be had serves on the CPU and tells of it; where it is required there is none', async (t) => {
  if ((await probeProvider('cuda')).works) return t.skip('cuda works on this machine');
  const server = await liveServer({ provider: 'cuda' });
  try {
    assert.equal(await server.metric('heartwood_provider_info{provider="cpu",state="chosen"}'), 1);
    assert.equal(await server.metric('heartwood_provider_info{provider="cuda",state="failed"}'), 1);
    assert.equal(await server.metric('heartwood_provider_info{provider="webgpu",state="not_probed"}'), 1);
    assert.equal(await server.metric('heartwood_provider_fallbacks_total{provider="cuda",at="start"}'), 1);
    assert.equal(await server.metric('heartwood_provider_fallbacks_total{provider="cuda",at="load"}'), 0);
    assert.match(await server.metrics(), /heartwood_model_info\{[^}]*version="2"[^}]*provider="cpu"\} 1/);
    const { config } = await server.raw.modelConfig({ name: 'net', version: '2' });
    assert.equal(config?.parameters['provider']?.stringValue, 'cpu');
  } finally {
    await server.stop();
  }
  const refused = { code: 'FAILED_PRECONDITION', message: /^provider cuda is required: cuda: [^\n]+$/ };
  await assert.rejects(liveServer({ provider: 'cuda', providerRequired: true }), refused);
  const never = join(tmpdir(), 'heartwood-never-made');
  const required = { provider: 'cuda', providerRequired: true, port: 0, metricsPort: 0, repository: never } as const;
  await assert.rejects(
    startPruner({ ...required, dataDirectory: `${never}.jobs` }, { logger: createLogger('test', 'silent') }),
    refused,
  );
  assert.equal(existsSync(never), false);
});
