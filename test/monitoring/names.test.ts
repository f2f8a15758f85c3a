import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from '../../libs/telemetry/metrics.js';
import { PrunerMetrics } from '../../services/pruner/pruner-metrics.js';
import { everythingOn } from './everything-on.js';
import { readmeQueries, ruleExpressions, textOf } from './files.js';
import { groupedBy, selectedBy } from './promql-names.js';

interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labelNames: readonly string[];
}

/** Labels that Prometheus gives to what it scrapes. */
const targetLabels = ['job', 'instance'];

/** The series of a metric, as they are stored. */
function seriesOf({ name, type, labelNames }: Metric): [string, readonly string[]][] {
  if (type !== 'histogram') return [[name, labelNames]];
  return [
    [`${name}_bucket`, [...labelNames, 'le']],
    [`${name}_sum`, labelNames],
    [`${name}_count`, labelNames],
  ];
}

/** `[metric, type, labels, unit]` of the rows of a table. */
function rowsOf(markdown: string): string[][] {
  const lines = markdown.split('\n').filter((line) => line.startsWith('| `'));
  return lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const units = ['seconds', 'bytes', 'joules', 'watts', 'nats', 'ratio', 'hertz', 'celsius', 'flops'];
const unitOf = (name: string): string =>
  units.find((unit) => new RegExp(`_${unit}(_total)?$`).test(name)) ?? (name.endsWith('_info') ? '' : 'number');

/** What a pruner and a worker export beside a server. */
function pruningMetrics(): Metric[] {
  const registry = new Registry();
  new PrunerMetrics(registry);
  return registry.getMetricsAsArray() as unknown as Metric[];
}

test('dashboard, rules, README and documentation name what the services export, and nothing else', async (context) => {
  const { registry } = await everythingOn(context);
  const metrics = [...(registry.getMetricsAsArray() as unknown as Metric[]), ...pruningMetrics()];
  const series = new Map(metrics.flatMap(seriesOf));
  series.set('up', []);
  const recorded = [...textOf('deploy/monitoring/recording-rules.yml').matchAll(/record: (\S+)/g)].map(
    ([, name]) => name!,
  );
  assert.ok(recorded.length > 10);
  assert.deepEqual(
    recorded.filter((name) => !/^heartwood:\w+:\w+$/.test(name)),
    [],
  );

  const dashboard = textOf('deploy/monitoring/dashboard.json');
  const shown = [...dashboard.matchAll(/"expr": ("(?:[^"\\]|\\.)*")/g)].map(([, text]) => JSON.parse(text!) as string);
  const expressions = {
    dashboard: shown,
    recording: ruleExpressions('deploy/monitoring/recording-rules.yml'),
    alerting: ruleExpressions('deploy/monitoring/alerting-rules.yml'),
    readme: readmeQueries('Metrics'),
  };
  const allLabels = new Set([...series.values()].flat().concat(targetLabels));
  for (const [where, list] of Object.entries(expressions)) {
    assert.ok(list.length >= 3, `${where}: ${list.length} expressions`);
    for (const expression of list) {
      const selected = selectedBy(expression);
      assert.ok(selected.length > 0, `${where}: no metric in ${expression}`);
      for (const { metric, labels } of selected) {
        assert.ok(series.has(metric) || recorded.includes(metric), `${where}: no metric ${metric} in ${expression}`);
        const known = [...(series.get(metric) ?? allLabels), ...targetLabels];
        for (const label of labels) assert.ok(known.includes(label), `${where}: ${metric} has no label ${label}`);
      }
      for (const label of groupedBy(expression)) assert.ok(allLabels.has(label), `${where}: no label ${label}`);
    }
  }
  // Everything of ours is shown or alerted on somewhere, but for what the dashboard lists its versions by.
  const used = new Set(
    Object.values(expressions)
      .flat()
      .flatMap(selectedBy)
      .map(({ metric }) => metric),
  );
  const unseen = metrics.filter(
    (metric) => metric.name.startsWith('heartwood_') && !seriesOf(metric).some(([name]) => used.has(name)),
  );
  assert.deepEqual(unseen.map(({ name }) => name).sort(), ['heartwood_model_info']);

  const documented = rowsOf(textOf('docs/metrics.md')).map(([name, type, labels, unit]) => [name, type, labels, unit]);
  const exported = metrics
    .filter(({ name }) => /^(heartwood|grpc)_/.test(name))
    .map(({ name, type, labelNames }) => [
      `\`${name}\``,
      type,
      labelNames.map((label) => `\`${label}\``).join(', '),
      unitOf(name),
    ]);
  const sorted = (rows: (string | undefined)[][]) => rows.toSorted((a, b) => (a[0]! < b[0]! ? -1 : 1));
  assert.deepEqual(sorted(documented), sorted(exported));
  assert.ok(rowsOf(textOf('docs/metrics.md')).every(([, , , , what]) => (what ?? '') !== ''));
});

test('what is asked for by a query is found in it', () => {
  assert.deepEqual(
    selectedBy(
      'sum by (model, le) (rate(a_bucket{model=~"x|by(y)", phase!="total"}[5m])) / on (model) group_left () b > bool 1e-9 or c:d:e offset 5m',
    ),
    [
      { metric: 'a_bucket', labels: ['model', 'phase'] },
      { metric: 'b', labels: [] },
      { metric: 'c:d:e', labels: [] },
    ],
  );
  assert.deepEqual(groupedBy('sum by (model, le) (x) / on (version) group_left () y'), ['model', 'le', 'version']);
});
