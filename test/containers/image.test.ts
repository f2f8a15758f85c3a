/** The image itself: what is in it, and how it runs where nothing may be written and nothing is allowed. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { getContainerRuntimeClient, type StartedTestContainer, Wait } from 'testcontainers';
import { exitCode, imageOf, killContainer, LockedContainer } from './locked-container.js';

const largest = 350e6;

test('the image is within its size, says what it is, and how it is to be run', async () => {
  const { container } = await getContainerRuntimeClient();
  const { Size, Config } = await container.dockerode.getImage(imageOf('IMAGE')).inspect();
  assert.ok(Size <= largest, `${Size / 1e6} MB`);
  assert.equal(Config.User, '10001:10001');
  assert.deepEqual(Config.Entrypoint, ['heartwood']);
  assert.equal(Config.Labels['org.opencontainers.image.title'], 'Heartwood');
  assert.match(Config.Labels['org.opencontainers.image.version'] ?? '', /^\d+\.\d+\.\d+$/);
  assert.ok(Config.Env.includes('GLIBC_TUNABLES=glibc.malloc.hugetlb=1'));
  const written = ['/tmp', '/var/lib/heartwood/pruner', '/var/lib/heartwood/repository'];
  assert.deepEqual(Object.keys(Config.Volumes).sort(), written);
});

describe('a server in it', () => {
  let server: StartedTestContainer;
  before(async () => {
    server = await new LockedContainer(imageOf('IMAGE'))
      .withExposedPorts(8001)
      .withWaitStrategy(Wait.forHealthCheck())
      .withStartupTimeout(300_000)
      .start();
  });
  after(() => server.stop());
  const shell = async (script: string) => {
    const { output, exitCode } = await server.exec(['sh', '-c', script]);
    return { output: output.trim(), exitCode };
  };

  test('is no root, has no capability, and cannot write but to its volumes', async () => {
    assert.equal((await shell('id -u; id -g')).output, '10001\n10001');
    assert.match((await shell('grep CapEff /proc/1/status')).output, /\t0{16}$/);
    assert.match((await shell('grep NoNewPrivs /proc/1/status')).output, /\t1$/);
    for (const folder of ['/', '/app', '/usr/local/bin', '/var/lib/heartwood', '/etc']) {
      const { output, exitCode } = await shell(`touch ${folder}/written`);
      assert.notEqual(exitCode, 0, folder);
      assert.match(output, /Read-only file system|Permission denied/);
    }
    assert.match((await shell('grep " / " /proc/mounts')).output, /\bro\b/);
    for (const folder of ['/tmp', '/var/lib/heartwood/repository', '/var/lib/heartwood/pruner']) {
      assert.deepEqual(await shell(`touch ${folder}/written && rm ${folder}/written`), { output: '', exitCode: 0 });
    }
  });

  test('is the first process, and holds nothing of tools, tests and other platforms', async () => {
    assert.match((await shell("tr '\\0' ' ' </proc/1/cmdline")).output, /^node .*heartwood serve /);
    const packages = (await shell('ls /app/node_modules')).output.split('\n');
    assert.ok(packages.includes('onnxruntime-node'));
    for (const tool of ['typescript', 'esbuild', 'eslint', 'testcontainers']) assert.ok(!packages.includes(tool), tool);
    assert.equal((await shell('find /app -name "*.ts" -o -name "*.map"')).output, '');
    assert.equal((await shell('find /app/dist -name "*.test.js" -o -name testing')).output, '');
    const binaries = (await shell('find /app -name "onnxruntime_binding.node"')).output.split('\n');
    assert.equal(binaries.length, 1);
    const arch = (await shell('uname -m')).output === 'aarch64' ? 'arm64' : 'x64';
    assert.match(binaries[0]!, new RegExp(`/linux/${arch}/`));
  });

  test('answers the probes from inside, and ends with 0 at SIGTERM', async () => {
    assert.deepEqual(await shell('heartwood health'), { output: '127.0.0.1:8001: SERVING', exitCode: 0 });
    assert.equal((await shell('heartwood health --address 127.0.0.1:8003')).exitCode, 1);
    await killContainer(server.getId(), 'SIGTERM');
    assert.equal(await exitCode(server.getId()), 0);
  });
});
