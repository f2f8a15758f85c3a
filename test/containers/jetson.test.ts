/** The image for Jetson over stand-ins for what only the board and NVIDIA's registry have: its layout, its user, and that it serves. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { getContainerRuntimeClient, type StartedTestContainer, Wait } from 'testcontainers';
import { exitCode, imageOf, killContainer, LockedContainer } from './locked-container.js';

let server: StartedTestContainer;
before(async () => {
  server = await new LockedContainer(imageOf('JETSON'))
    .withWaitStrategy(Wait.forHealthCheck())
    .withStartupTimeout(300_000)
    .start();
});
after(() => server?.stop());
const shell = async (script: string) => (await server.exec(['sh', '-c', script])).output.trim();

test('runs as a user of the GPU’s groups, and keeps TensorRT’s engines in a volume', async () => {
  assert.equal(await shell('id -u'), '10001');
  assert.deepEqual((await shell('id -Gn')).split(' ').sort(), ['heartwood', 'render', 'video']);
  const { container } = await getContainerRuntimeClient();
  const { Config } = await container.dockerode.getImage(imageOf('JETSON')).inspect();
  assert.ok('/var/cache/heartwood/tensorrt' in (Config.Volumes ?? {}));
  assert.ok(Config.Env.includes('ORT_TENSORRT_CACHE_PATH=/var/cache/heartwood/tensorrt'));
  const cache = '"$ORT_TENSORRT_CACHE_PATH"';
  assert.equal(await shell(`touch ${cache}/engine && ls ${cache} && rm ${cache}/engine`), 'engine');
});

test('has the compiled binding in the place of npm’s, with its providers beside it, and the libraries that they load', async () => {
  const bindings = (await shell('find / -name onnxruntime_binding.node 2>/dev/null')).split('\n');
  assert.equal(bindings.length, 1);
  const beside = (await shell(`ls ${bindings[0]!.replace(/[^/]+$/, '')}`)).split('\n');
  const providers = ['cuda', 'shared', 'tensorrt'].map((kind) => `libonnxruntime_providers_${kind}.so`);
  assert.deepEqual(beside.sort(), ['libonnxruntime.so.1', ...providers, 'onnxruntime_binding.node'].sort());
  const libraries = await shell('ls /opt/nvidia/lib');
  for (const name of ['libcudnn_graph.so.9', 'libnvinfer_builder_resource.so.10.3.0', 'libcublasLt.so.12'])
    assert.ok(libraries.split('\n').includes(name), name);
});

test('serves, and ends with 0 at SIGTERM', async () => {
  assert.equal(await shell('heartwood health'), '127.0.0.1:8001: SERVING');
  await killContainer(server.getId(), 'SIGTERM');
  assert.equal(await exitCode(server.getId()), 0);
});
