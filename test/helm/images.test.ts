import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { chart, render, root, withoutHelm } from './helm.js';
import { workloadsOf } from './workloads.js';

const fileOf = (name: string) => readFileSync(join(root, name), 'utf8');

for (const name of ['Dockerfile', 'Dockerfile.jetson']) {
  const file = fileOf(name);

  test(
    `${name}: the chart runs it as its user, on its ports, and has volumes where it writes`,
    { skip: withoutHelm },
    async () => {
      const pods = workloadsOf(await render('plain')).filter(({ component }) =>
        ['server', 'pruner'].includes(component),
      );
      assert.equal(pods.length, 2);
      const user = Number(/^USER (\d+)/m.exec(file.slice(file.lastIndexOf('\nFROM ')))![1]);
      for (const { pod } of pods) assert.equal(pod.securityContext?.runAsUser, user);
      const ports = pods.flatMap(({ containers }) =>
        (containers[0]!.container.ports ?? []).map(({ containerPort }) => containerPort),
      );
      assert.deepEqual(ports.sort(), /^EXPOSE (.*)$/m.exec(file)![1]!.split(' ').map(Number));
      const { server: values } = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as {
        server: { engineCache: { mountPath: string } };
      };
      const mounts = new Set([
        ...pods.flatMap(({ containers }) =>
          (containers[0]!.container.volumeMounts ?? []).map(({ mountPath }) => mountPath),
        ),
        values.engineCache.mountPath,
      ]);
      const volumes = JSON.parse(/^VOLUME (\[.*\])$/m.exec(file)![1]!) as string[];
      for (const volume of volumes) assert.ok(mounts.has(volume), volume);
      // Models that the image brings with it are where requests may name them.
      assert.ok(pods.some(({ containers }) => containers[0]!.container.args!.includes('--model-root=/app/models')));
    },
  );
}

test('TensorRT looks for its engines where the chart mounts them', () => {
  const { server } = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as {
    server: { engineCache: { mountPath: string } };
  };
  assert.match(
    fileOf('Dockerfile.jetson'),
    new RegExp(`ORT_TENSORRT_CACHE_PATH=${server.engineCache.mountPath}$`, 'm'),
  );
});
