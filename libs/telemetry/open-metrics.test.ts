import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counter, createRegistry, exemplarHistogram, Gauge, Registry, serveMetrics } from './metrics.js';
import { openMetrics, prefersOpenMetrics } from './open-metrics.js';

test('counters, gauges and histograms with exemplars, as the specification has them', async () => {
  const registry = new Registry();
  const registers = [registry];
  new Counter({ name: 'rings_total', help: 'Growth "rings".', registers, labelNames: ['tree'] }).inc(
    { tree: 'a"\n\\' },
    3,
  );
  new Gauge({ name: 'height_metres', help: 'Height.', registers }).set(Infinity);
  const seconds = exemplarHistogram(registry, { name: 'fall_seconds', help: 'Fall.', buckets: [1, 2] });
  seconds.observe({ value: 1.5, exemplarLabels: { trace_id: 'abc' } });
  seconds.observe({ value: 9, exemplarLabels: { request_id: '"' } });
  seconds.observe({ value: 0.5 });
  const text = (await openMetrics(registry)).replace(/ \d{10}(\.\d+)?$/gm, ' TIME');
  assert.equal(
    text,
    [
      '# TYPE rings counter',
      '# HELP rings Growth \\"rings\\".',
      'rings_total{tree="a\\"\\n\\\\"} 3',
      '# TYPE height_metres gauge',
      '# HELP height_metres Height.',
      'height_metres +Inf',
      '# TYPE fall_seconds histogram',
      '# HELP fall_seconds Fall.',
      'fall_seconds_bucket{le="1"} 1',
      'fall_seconds_bucket{le="2"} 2 # {trace_id="abc"} 1.5 TIME',
      'fall_seconds_bucket{le="+Inf"} 3 # {request_id="\\""} 9 TIME',
      'fall_seconds_sum 11',
      'fall_seconds_count 3',
      '# EOF',
      '',
    ].join('\n'),
  );
});

test('a scraper gets the format that it asks for, and the one does not spoil the other', async (context) => {
  const registry = createRegistry();
  new Counter({ name: 'rings_total', help: 'Growth rings.', registers: [registry] }).inc(3);
  const endpoint = await serveMetrics(registry, 0, '127.0.0.1');
  context.after(() => endpoint.close());
  const page = async (accept: string) => {
    const response = await fetch(`http://127.0.0.1:${endpoint.port}/metrics`, { headers: { accept } });
    return { type: response.headers.get('content-type') ?? '', text: await response.text() };
  };
  const open = await page('application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1');
  assert.match(open.type, /^application\/openmetrics-text; version=1\.0\.0/);
  assert.match(open.text, /^# TYPE rings counter\n.*\nrings_total 3$/m);
  assert.match(open.text, /\n# EOF\n$/);
  const plain = await page('*/*');
  assert.match(plain.type, /^text\/plain; version=0\.0\.4/);
  assert.match(plain.text, /^# TYPE rings_total counter\nrings_total 3$/m);
  assert.doesNotMatch(plain.text, /EOF/);
});

test('which format a header prefers', () => {
  for (const [accept, open] of [
    [undefined, false],
    ['', false],
    ['*/*', false],
    ['text/plain;version=0.0.4', false],
    ['application/openmetrics-text; version=0.0.1', true],
    ['Application/OpenMetrics-Text;q=0.75,text/plain;q=0.5', true],
    ['application/openmetrics-text;q=0.2,text/plain', false],
    ['application/openmetrics-text;q=0', false],
    ['application/openmetrics-text;q=x', false],
  ] as const)
    assert.equal(prefersOpenMetrics(accept), open, accept ?? 'none');
});
