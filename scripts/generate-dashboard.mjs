// Writes the Grafana dashboard from the table below: one entry, one panel. The output is committed, so that it can be imported as it is.
//
//   node scripts/generate-dashboard.mjs            writes deploy/monitoring/dashboard.json
//   node scripts/generate-dashboard.mjs --check    writes nothing; exits 1 if it is not current
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';

const file = join(dirname(fileURLToPath(import.meta.url)), '../deploy/monitoring/dashboard.json');

const chosen = 'model=~"$model",version=~"$version"';
const rate = (metric, labels = chosen) => `rate(${metric}{${labels}}[$__rate_interval])`;
const byVersion = (expression, more = '') => `sum by (model, version${more}) (${expression})`;
const quotient = (above, below, more = '') => `${byVersion(rate(above), more)} / ${byVersion(rate(below), more)}`;
const quantile = (q, metric, labels = chosen, more = '') =>
  `histogram_quantile(${q}, ${byVersion(rate(`${metric}_bucket`, labels), `${more}, le`)})`;
const duration = 'heartwood_inference_duration_seconds';
const latency = (q) => quantile(q, duration, `${chosen},phase="total"`);
const version = '{{model}} v{{version}}';

/** The same quantity of version 1, and a quantity over that. */
const first = (expression) => `sum by (model) (${expression.replaceAll(chosen, 'model=~"$model",version="1"')})`;
const overFirst = (expression) => `(${expression}) / on (model) group_left () ${first(expression)}`;

const itemsPerSecond = byVersion(rate('heartwood_inference_items_total'));
const itemsPerComputeSecond = quotient('heartwood_inference_items_total', 'heartwood_inference_compute_seconds_total');
const joules = quotient('heartwood_inference_energy_joules_sum', 'heartwood_inference_energy_joules_count');
const flops = quotient('heartwood_inference_flops_total', 'heartwood_inference_items_total');
const firstToken = 'heartwood_generation_first_token_seconds';
const interToken = 'heartwood_generation_inter_token_seconds';
const tokens = 'heartwood_generation_tokens_total';
const tokensPerComputeSecond = quotient(tokens, 'heartwood_generation_compute_seconds_total', ', phase');
const joulesPerToken = quotient('heartwood_generation_energy_joules_total', tokens, ', phase');
const decoding = `${chosen},phase="decode"`;
const drawn = `${byVersion(rate(tokens, decoding))} / ${byVersion(rate('heartwood_generation_compute_seconds_total', decoding))}`;
const reused = byVersion(rate('heartwood_generation_reused_prompt_tokens_total'));
const outcomes = byVersion(
  'rate(heartwood_inference_requests_total{model=~"$model|unknown",version=~"$version|unknown"}[$__rate_interval])',
  ', outcome',
);

const rows = [
  {
    title: 'Pruned against unpruned',
    panels: [
      { title: 'Latency p95', unit: 's', targets: [[latency(0.95), version]] },
      {
        title: 'Throughput of a busy worker',
        unit: 'short',
        description: 'Samples per second of compute: what a version can do, whatever it is asked for.',
        targets: [[itemsPerComputeSecond, version]],
      },
      {
        title: 'Joules a request',
        unit: 'joule',
        description: 'Above idling. Absent where there is no meter.',
        targets: [[joules, version]],
      },
      { title: 'FLOPs a sample', unit: 'short', targets: [[flops, version]] },
      { title: 'p95 over version 1', unit: 'percentunit', targets: [[overFirst(latency(0.95)), version]] },
      {
        title: 'Throughput over version 1',
        unit: 'percentunit',
        targets: [[overFirst(itemsPerComputeSecond), version]],
      },
      { title: 'Joules over version 1', unit: 'percentunit', targets: [[overFirst(joules), version]] },
      {
        title: 'FLOPs saved',
        unit: 'percentunit',
        targets: [[`1 - ${flops} / max by (model, version) (heartwood_model_dense_flops{${chosen}})`, version]],
      },
    ],
  },
  {
    title: 'Latency',
    panels: [
      {
        title: 'p50, p95, p99',
        unit: 's',
        wide: true,
        targets: [0.5, 0.95, 0.99].map((q) => [latency(q), `${version} p${q * 100}`]),
      },
      {
        title: 'p95 by phase',
        unit: 's',
        wide: true,
        targets: [[quantile(0.95, duration, chosen, ', phase'), `${version} {{phase}}`]],
      },
    ],
  },
  {
    title: 'Load',
    panels: [
      { title: 'Samples per second', unit: 'short', targets: [[itemsPerSecond, version]] },
      { title: 'Requests by outcome', unit: 'reqps', targets: [[outcomes, `${version} {{outcome}}`]] },
      {
        title: 'Waiting and running',
        unit: 'short',
        targets: [
          [`heartwood_model_queue_length{${chosen}}`, `${version} waiting`],
          [`heartwood_model_running_requests{${chosen}}`, `${version} running`],
        ],
      },
      {
        title: 'Oldest that waits',
        unit: 's',
        targets: [[`heartwood_model_oldest_waiting_seconds{${chosen}}`, version]],
      },
      {
        title: 'Samples a run',
        unit: 'short',
        targets: [[quotient('heartwood_inference_batch_size_sum', 'heartwood_inference_batch_size_count'), version]],
      },
      {
        title: 'Workers busy',
        unit: 'short',
        description: 'Seconds of compute a second.',
        targets: [[byVersion(rate('heartwood_inference_compute_seconds_total')), version]],
      },
      {
        title: 'Calls that failed, by method',
        unit: 'reqps',
        targets: [
          [
            'sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{grpc_code!="OK"}[$__rate_interval]))',
            '{{grpc_method}} {{grpc_code}}',
          ],
        ],
      },
      {
        title: 'Share refused',
        unit: 'percentunit',
        targets: [['heartwood:refused:ratio_rate5m{model=~"$model",version=~"$version"}', version]],
      },
    ],
  },
  {
    title: 'Text',
    panels: [
      {
        title: 'Time to first token',
        unit: 's',
        targets: [0.5, 0.95].map((q) => [quantile(q, firstToken), `${version} p${q * 100}`]),
      },
      {
        title: 'Time between tokens',
        unit: 's',
        targets: [0.5, 0.95].map((q) => [quantile(q, interToken), `${version} p${q * 100}`]),
      },
      {
        title: 'Tokens per second',
        unit: 'short',
        targets: [[byVersion(rate(tokens), ', phase'), `${version} {{phase}}`]],
      },
      {
        title: 'Tokens per second of compute',
        unit: 'short',
        description: 'What a version can do, whatever it is asked for.',
        targets: [[tokensPerComputeSecond, `${version} {{phase}}`]],
      },
      {
        title: 'Joules a token',
        unit: 'joule',
        description: 'Above idling. Absent where there is no meter.',
        targets: [[joulesPerToken, `${version} {{phase}}`]],
      },
      {
        title: 'Tokens per second of compute over version 1',
        unit: 'percentunit',
        targets: [[overFirst(drawn), version]],
      },
      {
        title: 'Cache',
        unit: 'short',
        description: 'Tokens held, and those that there is room for.',
        targets: [
          [`heartwood_generation_cached_tokens{${chosen}}`, `${version} held`],
          [`heartwood_generation_cache_tokens{${chosen}}`, `${version} room`],
        ],
      },
      { title: 'Cache, when full', unit: 'bytes', targets: [[`heartwood_generation_cache_bytes{${chosen}}`, version]] },
      {
        title: 'Texts of a decode run',
        unit: 'short',
        targets: [
          [
            quotient('heartwood_generation_decode_rows_sum', 'heartwood_generation_decode_rows_count'),
            `${version} mean`,
          ],
          [`heartwood_generation_cache_rows{${chosen}}`, `${version} room`],
        ],
      },
      {
        title: 'Texts that ended, by reason',
        unit: 'reqps',
        targets: [[byVersion(rate('heartwood_generation_finished_total'), ', reason'), `${version} {{reason}}`]],
      },
      {
        title: 'Prompt tokens taken over',
        unit: 'percentunit',
        description: 'Of an earlier prompt that began alike, over all prompt tokens.',
        targets: [[`${reused} / (${reused} + ${byVersion(rate(tokens, `${chosen},phase="prefill"`))})`, version]],
      },
    ],
  },
  {
    title: 'Pruning jobs',
    panels: [
      {
        title: 'Jobs',
        unit: 'short',
        description: 'In the database, not yet ended.',
        targets: [['max by (state) (heartwood_pruning_jobs{state=~"queued|running"})', '{{state}}']],
      },
      {
        title: 'Seconds of a stage',
        unit: 's',
        targets: [
          [
            'sum by (stage) (rate(heartwood_pruning_stage_duration_seconds_sum[$__rate_interval])) / sum by (stage) (rate(heartwood_pruning_stage_duration_seconds_count[$__rate_interval]))',
            '{{stage}}',
          ],
        ],
      },
      {
        title: 'Shards',
        unit: 'short',
        description: 'Of jobs under way; those that are queued wait for workers.',
        targets: [['max by (state) (heartwood_shards)', '{{state}}']],
      },
      {
        title: 'Shards taken',
        unit: 'short',
        targets: [
          [
            'sum by (instance, outcome) (increase(heartwood_shards_total[$__rate_interval]))',
            '{{instance}} {{outcome}}',
          ],
        ],
      },
      {
        title: 'Seconds of a shard',
        unit: 's',
        targets: [
          [
            'sum by (instance) (rate(heartwood_shard_duration_seconds_sum[$__rate_interval])) / sum by (instance) (rate(heartwood_shard_duration_seconds_count[$__rate_interval]))',
            '{{instance}}',
          ],
        ],
      },
    ],
  },
  {
    title: 'What pruning does',
    panels: [
      {
        title: 'Tokens kept, by stage',
        unit: 'percentunit',
        targets: [
          [
            quotient(
              'heartwood_inference_tokens_kept_ratio_sum',
              'heartwood_inference_tokens_kept_ratio_count',
              ', stage',
            ),
            `${version} stage {{stage}}`,
          ],
        ],
      },
      {
        title: 'Budget in force',
        unit: 'none',
        description: 'Nats.',
        targets: [
          [`heartwood_model_budget_nats{${chosen}}`, `${version} default now`],
          [`heartwood_controller_budget_nats{${chosen}}`, `${version} controller`],
          [
            quotient('heartwood_inference_budget_nats_sum', 'heartwood_inference_budget_nats_count'),
            `${version} mean of the samples`,
          ],
        ],
      },
      {
        title: 'Controller: p95 and objective',
        unit: 's',
        targets: [
          [`heartwood_controller_latency_p95_seconds{${chosen}}`, `${version} p95`],
          [`heartwood_controller_objective_seconds{${chosen}}`, `${version} objective`],
        ],
      },
      {
        title: 'Controller: changes',
        unit: 'short',
        targets: [
          [
            byVersion(
              'increase(heartwood_controller_changes_total{model=~"$model",version=~"$version"}[$__rate_interval])',
              ', direction',
            ),
            `${version} {{direction}}`,
          ],
          [`heartwood_controller_exhausted{${chosen}}`, `${version} exhausted`],
        ],
      },
      {
        title: 'Shadow: agreement with version 1',
        unit: 'percentunit',
        targets: [[quotient('heartwood_shadow_agreements_total', 'heartwood_shadow_kl_nats_count'), version]],
      },
      {
        title: 'Shadow: KL and what was promised',
        unit: 'none',
        description: 'Nats a sample; of texts, a token.',
        targets: [
          [quotient('heartwood_shadow_kl_nats_sum', 'heartwood_shadow_kl_nats_count'), `${version} mean`],
          [`heartwood_shadow_kl_lower_bound_nats{${chosen}}`, `${version} lower bound`],
          [`heartwood_shadow_promised_loss_nats{${chosen}}`, `${version} promised`],
        ],
      },
      {
        title: 'Shadow: budget broken',
        kind: 'stat',
        unit: 'bool_yes_no',
        red: 1,
        targets: [[`heartwood_shadow_budget_broken{${chosen}}`, version]],
      },
      {
        title: 'Shadow: requests by outcome',
        unit: 'reqps',
        targets: [[byVersion(rate('heartwood_shadow_requests_total'), ', outcome'), `${version} {{outcome}}`]],
      },
      {
        title: 'Shadow: time over version 1',
        unit: 'percentunit',
        targets: [
          [quotient('heartwood_shadow_latency_ratio_sum', 'heartwood_shadow_latency_ratio_count'), `${version} mean`],
        ],
      },
    ],
  },
  {
    title: 'Machine',
    panels: [
      {
        title: 'Power by rail',
        unit: 'watt',
        targets: [
          ['heartwood_power_watts', '{{rail}}'],
          ['heartwood_idle_power_watts', '{{rail}} idle'],
        ],
      },
      {
        title: 'Power by version',
        unit: 'watt',
        targets: [
          [byVersion(rate('heartwood_inference_energy_joules_sum')), version],
          ['rate(heartwood_energy_unattributed_joules_total[$__rate_interval])', 'of no request'],
        ],
      },
      {
        title: 'Energy by rail',
        unit: 'joule',
        description: 'Of the time shown.',
        targets: [['increase(heartwood_energy_joules_total[$__range])', '{{rail}}']],
      },
      { title: 'Power mode', kind: 'stat', unit: 'short', targets: [['heartwood_power_mode_info', '{{name}}']] },
      {
        title: 'Memory by process',
        unit: 'bytes',
        targets: [['heartwood_process_resident_memory_bytes', '{{instance}} {{process}}']],
      },
      {
        title: 'Workers that died',
        kind: 'stat',
        unit: 'short',
        red: 1,
        targets: [
          [
            'sum by (instance, worker) (increase(heartwood_worker_restarts_total[$__range]))',
            '{{instance}} worker {{worker}}',
          ],
        ],
      },
      {
        title: 'Execution provider',
        kind: 'stat',
        unit: 'short',
        targets: [['heartwood_provider_info{state="chosen"}', '{{instance}} {{provider}}']],
      },
      {
        title: 'Fell back to the CPU',
        kind: 'stat',
        unit: 'short',
        red: 1,
        targets: [
          [
            'sum by (instance, provider, at) (increase(heartwood_provider_fallbacks_total[$__range]))',
            '{{instance}} {{provider}} {{at}}',
          ],
        ],
      },
      {
        title: 'Versions',
        kind: 'stat',
        unit: 'bool_yes_no',
        description: 'Whether a version is loaded.',
        targets: [[`heartwood_model_ready{${chosen}}`, version]],
      },
      {
        title: 'Clocks',
        unit: 'hertz',
        targets: [
          ['heartwood_clock_hertz', '{{device}}'],
          ['heartwood_clock_limit_hertz', '{{device}} limit'],
        ],
      },
      { title: 'Temperatures', unit: 'celsius', targets: [['heartwood_temperature_celsius', '{{zone}}']] },
      {
        title: 'GPU load, CPU, event loop',
        unit: 'percentunit',
        targets: [
          ['heartwood_gpu_load_ratio', '{{device}}'],
          ['rate(process_cpu_seconds_total{job="heartwood"}[$__rate_interval])', 'CPU'],
          ['nodejs_eventloop_lag_p99_seconds{job="heartwood"}', 'event loop p99, s'],
        ],
      },
    ],
  },
];

const datasource = { type: 'prometheus', uid: '${datasource}' };

function panelOf({ title, kind = 'timeseries', unit, description, red, targets }, id, gridPos) {
  const steps = [{ color: 'green', value: null }, ...(red === undefined ? [] : [{ color: 'red', value: red }])];
  return {
    id,
    title,
    type: kind,
    ...(description ? { description } : {}),
    datasource,
    gridPos,
    fieldConfig: {
      defaults: {
        unit,
        ...(kind === 'timeseries' ? { min: 0, custom: { showPoints: 'never' } } : {}),
        thresholds: { mode: 'absolute', steps },
      },
      overrides: [],
    },
    options:
      kind === 'stat'
        ? { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'background' }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
    targets: targets.map(([expr, legendFormat], at) => ({
      refId: String.fromCharCode(65 + at),
      datasource,
      expr,
      legendFormat,
      // The trace of a request that was that slow, where the data source knows where traces are.
      ...(expr.includes('duration_seconds_bucket') ? { exemplar: true } : {}),
    })),
  };
}

/** Rows of panels, four beside each other, or two wide ones. */
function layOut() {
  const panels = [];
  let y = 0;
  for (const row of rows) {
    panels.push({
      id: panels.length + 1,
      title: row.title,
      type: 'row',
      collapsed: false,
      panels: [],
      gridPos: { x: 0, y, w: 24, h: 1 },
    });
    y += 1;
    let x = 0;
    for (const panel of row.panels) {
      const w = panel.wide ? 12 : 6;
      panels.push(panelOf(panel, panels.length + 1, { x, y, w, h: 7 }));
      x += w;
      if (x >= 24) [x, y] = [0, y + 7];
    }
    if (x > 0) y += 7;
  }
  return panels;
}

const choice = (name, query) => ({
  name,
  label: name,
  type: 'query',
  datasource,
  query: { query, refId: name },
  definition: query,
  refresh: 2,
  sort: 3,
  multi: true,
  includeAll: true,
  current: { text: ['All'], value: ['$__all'] },
});

const dashboard = {
  uid: 'heartwood',
  title: 'Heartwood',
  description: 'Pruned and unpruned versions side by side. Needs the rules in recording-rules.yml.',
  tags: ['heartwood'],
  schemaVersion: 39,
  version: 1,
  editable: true,
  timezone: 'browser',
  time: { from: 'now-1h', to: 'now' },
  refresh: '15s',
  templating: {
    list: [
      { name: 'datasource', label: 'data source', type: 'datasource', query: 'prometheus', current: {} },
      choice('model', 'label_values(heartwood_model_info, model)'),
      choice('version', 'label_values(heartwood_model_info{model=~"$model"}, version)'),
    ],
  },
  annotations: {
    list: [
      {
        name: 'budget changed',
        datasource,
        enable: true,
        iconColor: 'orange',
        expr: 'increase(heartwood_controller_changes_total[1m]) > 0',
        titleFormat: 'budget {{direction}}',
        textFormat: version,
      },
    ],
  },
  panels: layOut(),
};

const text = await format(JSON.stringify(dashboard), { parser: 'json', printWidth: 120 });
if (!process.argv.includes('--check')) writeFileSync(file, text);
else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
  console.error('deploy/monitoring/dashboard.json is not current (run `node scripts/generate-dashboard.mjs`)');
  process.exit(1);
}
