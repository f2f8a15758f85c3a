import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { chart, refusal, withoutHelm } from './helm.js';

/** Values that are wrong each by itself, and what is said of them: the field, and what was expected of it. */
const wrong: readonly (readonly [string, unknown, RegExp])[] = [
  ['serverr', {}, /at '': additional properties 'serverr' not allowed/],
  ['server.replica', 2, /at '\/server': additional properties 'replica' not allowed/],
  ['server.kind', 'StatefulSet', /at '\/server\/kind': value must be one of 'Deployment', 'DaemonSet'/],
  ['server.replicas', 'two', /at '\/server\/replicas': got string, want integer/],
  ['server.replicas', -1, /at '\/server\/replicas': minimum: got -1, want 0/],
  ['server.workers', 0, /at '\/server\/workers': minimum: got 0, want 1/],
  ['server.threads', 1.5, /at '\/server\/threads': got number, want integer/],
  [
    'server.provider',
    'rocm',
    /at '\/server\/provider': value must be one of '', 'cpu', 'cuda', 'tensorrt', 'webgpu', 'auto'/,
  ],
  ['server.providerRequired', 'yes', /at '\/server\/providerRequired': got string, want boolean/],
  ['server.logLevel', 'verbose', /at '\/server\/logLevel': value must be one of/],
  ['server.drainMs', 1e9, /at '\/server\/drainMs': maximum: got /],
  ['server.extraArgs', ['serve'], /at '\/server\/extraArgs\/0': 'serve' does not match pattern/],
  ['server.env', [{ value: 'x' }], /at '\/server\/env\/0': missing property 'name'/],
  [
    'server.resources.limits',
    { cpu: '1', memory: null },
    /at '\/server\/resources\/limits': missing property 'memory'/,
  ],
  ['server.resources.limits.memory', '2 GB', /at '\/server\/resources\/limits\/memory': '2 GB' does not match pattern/],
  ['server', null, /at '': missing property 'server'/],
  ['database', null, /at '': missing property 'database'/],
  ['server.tls', null, /at '\/server': missing property 'tls'/],
  ['server.engineCache', null, /at '\/server': missing property 'engineCache'/],
  ['pruner.tls.clientCaKey', null, /at '\/pruner\/tls': missing property 'clientCaKey'/],
  ['worker.startupSeconds', 5, /at '\/worker\/startupSeconds': minimum: got 5, want 10/],
  ['server.resources.limits.memory', 0, /at '\/server\/resources\/limits\/memory': minimum: got 0, want 1/],
  ['server.resources.limits.memory', 1, /at '\/server\/resources\/limits\/memory': minimum: got 1, want 1/],
  ['server.resources.limits.memory', '0Gi', /at '\/server\/resources\/limits\/memory': '0Gi' does not match pattern/],
  ['pruner.resources.limits.memory', '2048', /at '\/pruner\/resources\/limits\/memory': '2048' does not match pattern/],
  ['worker.resources.limits.cpu', 0, /at '\/worker\/resources\/limits\/cpu': exclusiveMinimum: got 0, want 0/],
  ['worker.resources.limits.cpu', '0m', /at '\/worker\/resources\/limits\/cpu': '0m' does not match pattern/],
  [
    'networkPolicy.clients',
    [{ ipBlock: { cidr: '10.0.0.0' } }],
    /at '\/networkPolicy\/clients\/0\/ipBlock\/cidr': '10.0.0.0' does not match pattern/,
  ],
  ['networkPolicy.databases', ['10.0.0.1'], /at '\/networkPolicy\/databases\/0': got string, want object/],
  ['pruner.gpu.count', 0, /at '\/pruner\/gpu\/count': minimum: got 0, want 1/],
  ['server.gpu.resource', 'gpu', /at '\/server\/gpu\/resource': 'gpu' does not match pattern/],
  ['server.supplementalGroups', ['video'], /at '\/server\/supplementalGroups\/0': got string, want integer/],
  ['server.powerMeter.sampleHz', 200, /at '\/server\/powerMeter\/sampleHz': maximum: got 200, want 100/],
  ['server.service.type', 'Ingress', /at '\/server\/service\/type': value must be one of/],
  ['server.service.port', 70000, /at '\/server\/service\/port': maximum: got 70,000, want 65,535/],
  ['server.tls.secretName', 'Not_A_Name', /at '\/server\/tls\/secretName': 'Not_A_Name' does not match pattern/],
  ['server.tls.cert', '/etc/cert', /at '\/server\/tls': additional properties 'cert' not allowed/],
  ['server.auth.token', 'hunter2', /at '\/server\/auth': additional properties 'token' not allowed/],
  ['server.autoscaling.waitingPerPod', 0, /at '\/server\/autoscaling\/waitingPerPod': minimum: got 0, want 1/],
  ['server.tolerations', [{ effect: 'Never' }], /at '\/server\/tolerations\/0\/effect': value must be one of/],
  ['repository.type', 'nfs', /at '\/repository\/type': value must be one of 'persistentVolumeClaim', 'hostPath'/],
  [
    'repository.accessMode',
    'ReadOnlyMany',
    /at '\/repository\/accessMode': value must be one of 'ReadWriteOnce', 'ReadWriteMany'/,
  ],
  ['repository.size', '20', /at '\/repository\/size': '20' does not match pattern/],
  ['repository.hostPath', '/', /at '\/repository\/hostPath': '\/' does not match pattern/],
  ['repository.hostPath', '/etc', /at '\/repository\/hostPath': '\/etc' does not match pattern/],
  ['repository.hostPath', '/srv/../etc', /at '\/repository\/hostPath': '\/srv\/..\/etc' does not match pattern/],
  ['pruner.modelRoots', ['checkpoints'], /at '\/pruner\/modelRoots\/0': 'checkpoints' does not match pattern/],
  ['database.url', 'postgres://a:b@c/d', /at '\/database': additional properties 'url' not allowed/],
  ['networkPolicy.clients', [{}], /at '\/networkPolicy\/clients\/0': minProperties: got 0, want 1/],
  [
    'networkPolicy.clients',
    [{ cidr: '10.0.0.0/8' }],
    /at '\/networkPolicy\/clients\/0': additional properties 'cidr' not allowed/,
  ],
  ['monitoring.podMonitor.interval', '15', /at '\/monitoring\/podMonitor\/interval': '15' does not match pattern/],
  ['image.digest', 'latest', /at '\/image\/digest': 'latest' does not match pattern/],
  ['fullnameOverride', 'a'.repeat(41), /at '\/fullnameOverride': maxLength: got 41, want 40/],
  ['powerMode.id', '30W', /at '\/powerMode\/id': got string, want integer/],
];

for (const [path, value, words] of wrong) {
  test(`${path}: ${JSON.stringify(value).slice(0, 60)} is refused`, { skip: withoutHelm }, async () => {
    assert.match(await refusal({ [path]: value }), words);
  });
}

/** Values that are right each by itself and do not go together. */
const unfit: readonly (readonly [Readonly<Record<string, unknown>>, RegExp])[] = [
  [{ 'worker.enabled': true }, /worker\.enabled: expected database\.secretName beside it/],
  [
    { 'worker.enabled': true, 'database.secretName': 'db', 'pruner.enabled': false },
    /worker\.enabled: expected pruner\.enabled/,
  ],
  [{ 'pruner.replicas': 2 }, /pruner\.replicas: expected 1 without database\.secretName/],
  [
    { 'server.kind': 'DaemonSet' },
    /server\.kind DaemonSet: expected repository\.type hostPath or repository\.accessMode ReadWriteMany/,
  ],
  [
    { 'server.kind': 'DaemonSet', 'repository.type': 'hostPath', 'server.autoscaling.enabled': true },
    /server\.autoscaling\.enabled: expected server\.kind Deployment/,
  ],
  [{ 'server.autoscaling.minReplicas': 9 }, /server\.autoscaling\.minReplicas: expected no more than maxReplicas/],
  [
    { 'server.rollingUpdate.maxSurge': 0 },
    /server\.rollingUpdate: expected maxSurge or maxUnavailable to be more than 0/,
  ],
  [{ 'server.service': { headless: true, type: 'NodePort' } }, /server\.service\.headless: expected type ClusterIP/],
  [
    { 'pruner.tls.clientCaSecretName': 'ca' },
    /pruner\.tls\.clientCaSecretName: expected pruner\.tls\.secretName beside it/,
  ],
  [
    { 'server.tls': { secretName: 'tls', clientCaSecretName: 'ca' } },
    /server\.tls\.probeSecretName: expected a Secret with a client's certificate/,
  ],
  [{ 'server.providerRequired': true }, /server\.providerRequired: expected server\.provider beside it/],
  [{ 'worker.providerRequired': true }, /worker\.providerRequired: expected worker\.provider beside it/],
  [
    { 'server.tls.probeSecretName': 'probe' },
    /server\.tls\.probeSecretName: expected server\.tls\.secretName beside it/,
  ],
  [{ 'pruner.service.nodePort': 30803 }, /pruner\.service\.nodePort: expected pruner\.service\.type NodePort/],
  [{ 'server.extraArgs': ['--port=1'] }, /server\.extraArgs: expected flags that the chart does not set.* got --port:/],
  [{ 'pruner.extraArgs': ['--metrics-port', '--host=::'] }, /pruner\.extraArgs: .* got --metrics-port:/],
  [{ 'worker.extraArgs': ['--lease-seconds=9', '--model-root=/'] }, /worker\.extraArgs: .* got --model-root:/],
  [{ 'server.env': [{ name: 'HEARTWOOD_PROVIDER', value: 'cuda' }] }, /server\.env: .* got HEARTWOOD_PROVIDER:/],
  [
    { 'server.podLabels': { 'app.kubernetes.io/component': 'x' } },
    /server\.podLabels: .* got app\.kubernetes\.io\/component/,
  ],
  [{ 'pruner.podLabels': { 'heartwood/repository': 'x' } }, /pruner\.podLabels: .* got heartwood\/repository/],
  ...['/app', '/app/models', '/tmp', '/var/lib', '/var/lib/heartwood/repository'].map(
    (path) => [{ 'inputs.mountPath': path }, /inputs\.mountPath: expected a folder beside \//] as const,
  ),
  [{ 'server.engineCache.mountPath': '/usr/lib' }, /server\.engineCache\.mountPath: expected a folder beside \/usr/],
  ...['/proc/1', '/sys/fs', '/etc/heartwood', '/dev/shm', '/var/lib', '/var/lib/kubelet/pods'].map(
    (path) =>
      [
        { repository: { type: 'hostPath', hostPath: path } },
        /repository\.hostPath: expected a folder of its own, .* which is the node's/,
      ] as const,
  ),
  [
    { 'monitoring.podMonitor.enabled': true, 'monitoring.serviceMonitor.enabled': true },
    /monitoring\.podMonitor, monitoring\.serviceMonitor: expected one of the two/,
  ],
];

for (const [values, words] of unfit) {
  test(`${JSON.stringify(values)} is refused`, { skip: withoutHelm }, async () => {
    assert.match(await refusal(values), words);
  });
}

const isEmpty = (value: unknown): boolean =>
  value === '' || (typeof value === 'object' && value !== null && Object.keys(value).length === 0);

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly additionalProperties?: unknown;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly definitions?: Readonly<Record<string, Schema>>;
}

test(
  'the schema knows every value, and no object of it takes a field that it does not know',
  { skip: withoutHelm },
  () => {
    const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as Schema;
    const values: unknown = parse(readFileSync(join(chart, 'values.yaml'), 'utf8'));
    const resolved = (one: Schema): Schema =>
      one.$ref === undefined ? one : schema.definitions![one.$ref.replace('#/definitions/', '')]!;
    const check = (value: unknown, at: Schema, path: string): void => {
      if (typeof value !== 'object' || value === null || Array.isArray(value) || !at.properties) return;
      assert.notEqual(at.additionalProperties ?? true, true, `${path} takes anything`);
      const known = Object.keys(at.properties).filter((name) => name !== 'global' && !/resources$/.test(path));
      for (const name of known) assert.ok(Object.hasOwn(value, name), `values.yaml has no ${path}.${name}`);
      // A null takes a default away: what templates count on has to be there. They take a missing string, list or map for an empty one.
      const counted = known.filter((name) => !isEmpty((value as Record<string, unknown>)[name]));
      if (!/resources(\.|$)/.test(path)) assert.deepEqual(at.required ?? [], counted, `required of ${path}`);
      for (const [name, inside] of Object.entries(value)) {
        const next = at.properties[name];
        if (next) check(inside, resolved(next), `${path}.${name}`);
        else assert.equal(typeof at.additionalProperties, 'object', `the schema does not know ${path}.${name}`);
      }
    };
    check(values, schema, '');
  },
);
