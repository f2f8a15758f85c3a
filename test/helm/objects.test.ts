import assert from 'node:assert/strict';
import { test } from 'node:test';
import { examples, lint, objectsIn, type Rendered, render, template, withoutHelm } from './helm.js';
import { faultsOf } from './kubernetes-schemas.js';

for (const example of examples) {
  test(
    `${example}: helm finds nothing to say, and every object is what the API takes`,
    { skip: withoutHelm },
    async () => {
      assert.match(await lint(example), /1 chart\(s\) linted, 0 chart\(s\) failed/);
      const [first, second] = [await template(example), await template(example)];
      assert.equal(first, second, 'two renders differ');
      const objects = objectsIn(first);
      assert.ok(objects.length >= 8);
      assert.deepEqual(objects.flatMap(faultsOf), []);
    },
  );
}

test('the values alone are a release too', { skip: withoutHelm }, async () => {
  const objects = await render();
  assert.deepEqual(objects.flatMap(faultsOf), []);
  const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
  assert.equal(new Set(names).size, names.length);
});

test('the schemas refuse what the API server would', { skip: withoutHelm }, async () => {
  const [deployment] = (await render()).filter(({ kind }) => kind === 'Deployment');
  const broken = (change: (object: Deployment) => void): string => {
    const copy = structuredClone(deployment) as unknown as Deployment;
    change(copy);
    return faultsOf(copy as unknown as Rendered).join('\n');
  };
  assert.equal(
    broken(() => undefined),
    '',
  );
  const cases: [(object: Deployment) => void, RegExp][] = [
    [(object) => (object.spec.replicas = 'two'), /spec\/replicas must be integer/],
    [(object) => delete object.spec['selector'], /spec must have required property selector/],
    [(object) => (object.spec['replica'] = 1), /\/spec\/replica: no such field/],
    [(object) => (pod(object)['hostNetwrk'] = true), /\/spec\/template\/spec\/hostNetwrk: no such field/],
    [(object) => (container(object)['readinesProbe'] = {}), /containers\/0\/readinesProbe: no such field/],
    [(object) => (container(object)['ports'] = [{ containerPort: 'grpc' }]), /containerPort must be integer/],
    [
      (object) => (container(object)['livenessProbe'] = { grpc: { service: '' } }),
      /grpc must have required property port/,
    ],
    [(object) => (container(object)['env'] = { A: 'b' }), /env must be array/],
    [(object) => (object.metadata.name = 'Upper'), /metadata\/name: expected a label of the DNS/],
    [(object) => (object.kind = 'Deploiment'), /^apps\/v1\/Deploiment: expected one of v1\/ConfigMap/],
  ];
  for (const [change, words] of cases) assert.match(broken(change), words);
});

interface Deployment {
  kind: string;
  metadata: { name: string };
  spec: { replicas: unknown; template: { spec: Record<string, unknown> } } & Record<string, unknown>;
}
const pod = (object: Deployment) => object.spec.template.spec;
const container = (object: Deployment) => (pod(object)['containers'] as Record<string, unknown>[])[0]!;
