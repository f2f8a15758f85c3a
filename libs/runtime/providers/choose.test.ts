import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { chooseProvider, decide } from './choose.js';
import type { ProviderName } from './index.js';
import { type Finding, probeProvider } from './probe.js';

const works = (provider: ProviderName, runMs: number): Finding => ({ provider, built: true, works: true, runMs });
const fails = (provider: ProviderName, reason: string): Finding => ({ provider, built: true, works: false, reason });
const chosen = (wish: ProviderName | 'auto', findings: readonly Finding[]) =>
  decide({ provider: wish, required: false }, findings);

describe('which provider is taken', () => {
  test('auto takes the fastest that works, and says of the others why not', () => {
    const choice = chosen('auto', [works('cpu', 20), works('cuda', 1.5), fails('webgpu', 'no adapter')]);
    assert.equal(choice.provider, 'cuda');
    assert.equal(choice.fellBack, false);
    assert.deepEqual(
      choice.passedOver.map(({ provider }) => provider),
      ['cpu', 'webgpu'],
    );
    assert.match(choice.passedOver[0]!.reason, /20\.00 ms against 1\.50 of cuda/);
    assert.match(choice.passedOver[1]!.reason, /no adapter \(it needs .*Vulkan/);
  });

  test('auto stays on the CPU where an accelerator is no faster: a GPU in software is one of them', () => {
    const choice = chosen('auto', [works('cpu', 2), works('webgpu', 1300)]);
    assert.equal(choice.provider, 'cpu');
    assert.match(choice.passedOver[0]!.reason, /slower here/);
  });

  test('auto never takes TensorRT, however fast; by name it is taken', () => {
    const tensorrt = works('tensorrt', 0.1);
    const choice = chosen('auto', [works('cpu', 20), tensorrt]);
    assert.equal(choice.provider, 'cpu');
    assert.match(choice.passedOver[0]!.reason, /by name/);
    assert.equal(chosen('tensorrt', [tensorrt]).provider, 'tensorrt');
  });

  test('one by name falls back to the CPU with the reason, or is refused with it', () => {
    const findings = [fails('cuda', 'Failed to load shared library')];
    const choice = chosen('cuda', findings);
    assert.equal(choice.provider, 'cpu');
    assert.equal(choice.fellBack, true);
    assert.match(choice.passedOver[0]!.reason, /shared library/);
    assert.throws(() => decide({ provider: 'cuda', required: true }, findings), {
      code: 'FAILED_PRECONDITION',
      message: /^provider cuda is required: cuda: Failed to load shared library[^\n]*$/,
    });
  });

  test('auto and required: some accelerator, or none and a refusal that names them all', () => {
    const required = { provider: 'auto', required: true } as const;
    assert.equal(decide(required, [works('cpu', 20), works('cuda', 1)]).provider, 'cuda');
    const none = [fails('cuda', 'no library'), fails('tensorrt', 'no library'), fails('webgpu', 'no adapter')];
    assert.throws(() => decide(required, none), {
      code: 'FAILED_PRECONDITION',
      message: /cuda: .*tensorrt: .*webgpu: /,
    });
    assert.equal(decide({ provider: 'cpu', required: true }, []).provider, 'cpu');
  });
});

describe('probes, for real', () => {
  test('the CPU multiplies rightly in a process of its own', async () => {
    const { works: found, runMs } = await probeProvider('cpu');
    assert.equal(found, true);
    assert.ok(runMs! > 0);
  });

  for (const provider of ['cuda', 'tensorrt', 'webgpu'] as const) {
    test(`${provider} works, or says in a line why it does not`, async () => {
      const finding = await probeProvider(provider);
      if (finding.works) assert.ok(finding.runMs! > 0);
      else {
        assert.ok(finding.reason!.length > 0);
        assert.doesNotMatch(finding.reason!, /\n|onnxruntime_src/);
      }
    });
  }

  test('a probe whose process crashes says so, and nothing else happens', async () => {
    const before = process.env['NODE_OPTIONS'];
    process.env['NODE_OPTIONS'] = '--import=data:text/javascript,process.abort()';
    try {
      const finding = await probeProvider('webgpu');
      assert.equal(finding.works, false);
      assert.match(finding.reason!, /webgpu probe worker was killed by SIGABRT/);
    } finally {
      if (before === undefined) delete process.env['NODE_OPTIONS'];
      else process.env['NODE_OPTIONS'] = before;
    }
  });

  test('what is chosen here works here, and cpu costs no probe', async () => {
    const choice = await chooseProvider({ provider: 'auto', required: false });
    assert.equal(choice.findings.find(({ provider }) => provider === choice.provider)?.works ?? true, true);
    const plain = await chooseProvider({ provider: 'cpu', required: false }, () => assert.fail('a probe'));
    assert.deepEqual([plain.provider, plain.findings], ['cpu', []]);
  });
});
