import assert from 'node:assert/strict';
import { test } from 'node:test';
import { examples, type Rendered, render, withoutHelm } from './helm.js';
import { faultsOf } from './kubernetes-schemas.js';
import { rules } from './rules/index.js';
import { ofKind, specOf, workloadsOf } from './workloads.js';

const rendered = new Map<string, Promise<Rendered[]>>();
/** The objects of an example, rendered once. */
function objectsOf(example: string): Promise<Rendered[]> {
  const objects = rendered.get(example) ?? render(example);
  rendered.set(example, objects);
  return objects;
}

for (const { name, faults, broken } of rules) {
  test(name, { skip: withoutHelm }, async () => {
    for (const example of examples) assert.deepEqual(faults(await objectsOf(example)), [], example);
  });

  test(`${name}: and what breaks it is caught`, { skip: withoutHelm }, async () => {
    const objects = structuredClone(await objectsOf(broken.example));
    broken.change(objects);
    assert.notDeepEqual(faults(objects), []);
  });
}

/** Values that turn on what no example does. */
const variants: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ['a server alone', { 'pruner.enabled': false }],
  ['a pruner alone', { 'server.enabled': false }],
  [
    'Services to the outside',
    { 'server.service.type': 'NodePort', 'server.service.nodePort': 30801, 'pruner.service.type': 'LoadBalancer' },
  ],
  ['Prometheus by Services', { 'monitoring.serviceMonitor.enabled': true }],
  [
    'a claim for engines, groups and a GPU',
    { 'server.engineCache': { enabled: true, existingClaim: 'checkpoints' }, 'server.gpu.enabled': true },
  ],
  [
    'workers of whole jobs, on a provider',
    {
      'worker.enabled': true,
      'worker.wholeJobs': true,
      'worker.provider': 'cuda',
      'database.secretName': 'heartwood-database',
    },
  ],
  [
    'a provider or nothing',
    { 'pruner.provider': 'auto', 'server.provider': 'tensorrt', 'server.providerRequired': true },
  ],
  [
    'threads by hand',
    { 'server.threads': 3, 'pruner.threads': 2, 'server.extraArgs': ['--latency-slo=50ms', '--shadow=0.05'] },
  ],
  ...['cpu', 'cuda', 'tensorrt', 'webgpu', 'auto'].map(
    (provider) =>
      [
        `everything on ${provider}`,
        {
          'server.provider': provider,
          'pruner.provider': provider,
          'worker.provider': provider,
          'worker.enabled': true,
          'database.secretName': 'heartwood-database',
        },
      ] as const,
  ),
  [
    'accelerators for the pruner and its workers, a database in one place',
    {
      pruner: { runtimeClassName: 'nvidia', gpu: { enabled: true }, supplementalGroups: [44, 104] },
      worker: { enabled: true, runtimeClassName: 'nvidia', gpu: { enabled: true }, supplementalGroups: [44] },
      'database.secretName': 'heartwood-database',
      'networkPolicy.databases': [{ ipBlock: { cidr: '10.1.0.0/16', except: ['10.1.2.0/24'] } }],
      'networkPolicy.clients': [{ ipBlock: { cidr: 'fd00::/8' } }],
    },
  ],
  ['empty strings, lists and maps taken away', { 'server.podLabels': null, 'server.env': null, 'image.tag': null }],
  ...['1500000000', '0.5Gi', '1500M', '524288Ki'].map(
    (memory) => [`memory ${memory}`, { 'server.resources.limits.memory': memory }] as const,
  ),
  ...[0.5, '0.5', '500m', 2].map((cpu) => [`CPUs ${cpu}`, { 'server.resources.limits.cpu': cpu }] as const),
  ...['1.0-', 'a.'.repeat(33), '_x_', `${'a'.repeat(62)}-b`].map(
    (tag) => [`tag ${tag}`, { 'image.tag': tag }] as const,
  ),
  [
    "flags, variables, labels and folders of one's own",
    {
      'pruner.extraArgs': ['--lease-seconds=30'],
      'server.env': [{ name: 'HEARTWOOD_MAX_CALLS', value: '9' }],
      'server.podLabels': { 'app.kubernetes.io/team': 'trees', team: 'trees' },
      'inputs.mountPath': '/var/lib/heartwood/in',
    },
  ],
  ['no network policy', { 'networkPolicy.enabled': false, 'server.podDisruptionBudget.enabled': false }],
  [
    'names by hand',
    { fullnameOverride: 'trees', 'image.digest': `sha256:${'0'.repeat(64)}`, 'image.pullSecrets': ['checkpoints'] },
  ],
  [
    'drains of ten minutes',
    { 'server.drainMs': 600000, 'server.stopDelayMs': 20500, 'server.maxConnectionAgeMs': 1952257861 },
  ],
];

for (const [name, values] of variants) {
  test(`${name}: every object is what the API takes, and every rule holds`, { skip: withoutHelm }, async () => {
    const objects = await render('plain', values);
    assert.deepEqual(objects.flatMap(faultsOf), []);
    assert.deepEqual(
      rules.flatMap((rule) => rule.faults(objects)),
      [],
    );
  });
}

/** What a component is given to start, in seconds. */
const starts: readonly (readonly [Readonly<Record<string, unknown>>, string, number])[] = [
  [{}, 'server', 120],
  [{ 'server.provider': 'tensorrt' }, 'server', 600],
  [{ 'server.provider': 'tensorrt', 'server.startupSeconds': 1501 }, 'server', 1505],
  [{ 'pruner.provider': 'cuda', 'pruner.startupSeconds': 30 }, 'pruner', 30],
  [{ 'pruner.provider': 'webgpu' }, 'pruner', 300],
  [{ 'worker.enabled': true, 'database.secretName': 'db', 'worker.provider': 'auto' }, 'worker', 900],
];

for (const [values, component, seconds] of starts) {
  test(`${JSON.stringify(values)}: the ${component} gets ${seconds} s to start`, { skip: withoutHelm }, async () => {
    const workload = workloadsOf(await render(undefined, values)).find((one) => one.component === component)!;
    const { periodSeconds, failureThreshold } = workload.containers[0]!.container.startupProbe!;
    assert.equal(periodSeconds! * failureThreshold!, seconds);
  });
}

const accelerated = { runtimeClassName: 'nvidia', gpu: { enabled: true, count: 2 }, supplementalGroups: [44, 104] };

for (const component of ['server', 'pruner', 'worker']) {
  test(`an accelerator reaches the ${component}`, { skip: withoutHelm }, async () => {
    const values = { [component]: { ...accelerated, enabled: true }, 'database.secretName': 'db' };
    const { pod, containers } = workloadsOf(await render(undefined, values)).find(
      (one) => one.component === component,
    )!;
    assert.equal(pod.runtimeClassName, 'nvidia');
    assert.deepEqual(pod.securityContext!.supplementalGroups, [44, 104]);
    assert.equal(containers[0]!.container.resources!.limits!['nvidia.com/gpu'], 2);
  });
}

test('the database may be narrowed to where it is, for those that call it', { skip: withoutHelm }, async () => {
  const databases = [{ ipBlock: { cidr: '10.1.0.0/16' } }];
  const egress = async (values: Readonly<Record<string, unknown>>) =>
    ofKind(await render('postgres-and-workers', values), 'NetworkPolicy').map((object) =>
      specOf<{ egress: { to?: unknown }[] }>(object).egress.map(({ to }) => to),
    );
  assert.deepEqual(await egress({}), [[], [undefined, undefined], [undefined, undefined]]);
  const narrow = await egress({ 'networkPolicy.databases': databases });
  assert.deepEqual(narrow, [[], [databases, undefined], [databases, undefined]]);
});

for (const [tag, label] of [
  ['1.0-', '1.0'],
  ['_x_', 'x'],
  [`${'a'.repeat(62)}-b`, 'a'.repeat(62)],
] as const) {
  test(`the tag ${tag} is a label that the API takes`, { skip: withoutHelm }, async () => {
    for (const { metadata } of await render(undefined, { 'image.tag': tag }))
      assert.equal(metadata.labels!['app.kubernetes.io/version'], label);
  });
}
