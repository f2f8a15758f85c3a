import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { chart, objectsIn, type Rendered, render, root, runHelm, template, withoutHelm } from './helm.js';

const textOf = (path: string) => readFileSync(join(root, path), 'utf8');
const rulesOf = (file: string) => (parse(textOf(`deploy/monitoring/${file}`)) as { groups: unknown[] }).groups;
const only = (objects: readonly Rendered[], kind: string): Rendered => {
  const found = objects.filter((object) => object.kind === kind);
  assert.equal(found.length, 1, kind);
  return found[0]!;
};

test('the rules and the dashboard are those of deploy/monitoring', { skip: withoutHelm }, async () => {
  const objects = await render('monitoring');
  const { groups } = only(objects, 'PrometheusRule')['spec'] as { groups: unknown[] };
  assert.deepEqual(groups, [...rulesOf('recording-rules.yml'), ...rulesOf('alerting-rules.yml')]);
  const data = only(objects, 'ConfigMap')['data'] as Record<string, string>;
  assert.equal(data['heartwood.json']!.trimEnd(), textOf('deploy/monitoring/dashboard.json').trimEnd());
  // What a ConfigMap may hold.
  assert.ok(data['heartwood.json']!.length < 1024 * 1024);
});

test('the server is scraped as the job that the alerts ask for', { skip: withoutHelm }, async () => {
  const asked = /up\{job="([^"]+)"\}/.exec(textOf('deploy/monitoring/alerting-rules.yml'))![1];
  for (const kind of ['PodMonitor', 'ServiceMonitor']) {
    const field = kind === 'PodMonitor' ? 'podMonitor' : 'serviceMonitor';
    const objects = await render('plain', { [`monitoring.${field}.enabled`]: true });
    const jobs = objects
      .filter((object) => object.kind === kind)
      .map(({ spec }) => /"targetLabel":"job","replacement":"([^"]+)"/.exec(JSON.stringify(spec))![1]);
    assert.deepEqual(jobs, [asked, `${asked}-pruner`], kind);
  }
});

test(
  'the autoscaler asks for a metric that the server has, by the rule that the documentation shows',
  { skip: withoutHelm },
  async () => {
    const objects = await render('postgres-and-workers');
    const { metrics } = only(objects, 'HorizontalPodAutoscaler')['spec'] as {
      metrics: { pods: { metric: { name: string } } }[];
    };
    const { name } = metrics[0]!.pods.metric;
    assert.match(textOf('docs/metrics.md'), new RegExp(`^\\| \`${name}\` +\\| gauge `, 'm'));
    const rule = /```yaml\n(rules:\n.*?)```/s.exec(textOf('docs/deploy.md'))?.[1] ?? '';
    const { rules } = parse(rule) as { rules: { custom: { seriesQuery: string; name: { as: string } }[] } };
    assert.equal(rules.custom[0]!.name.as, name);
    assert.match(rules.custom[0]!.seriesQuery, new RegExp(`^${name}\\{`));
  },
);

test(
  'a packed chart renders the same, what it takes from outside of its folder included',
  { skip: withoutHelm },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'heartwood-chart-'));
    try {
      await runHelm('package', chart, '--destination', folder);
      const [packed] = readdirSync(folder);
      const values = ['--values', join(chart, 'examples/monitoring.yaml')];
      const rendered = await runHelm('template', 'edge', join(folder, packed!), '--namespace', 'models', ...values);
      assert.deepEqual(objectsIn(rendered), objectsIn(await template('monitoring')));
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
);

test('the chart is of the version of the program', { skip: withoutHelm }, () => {
  const { version } = JSON.parse(textOf('package.json')) as { version: string };
  const { appVersion } = parse(textOf('helm/heartwood/Chart.yaml')) as { appVersion: string };
  assert.equal(appVersion, version);
});
