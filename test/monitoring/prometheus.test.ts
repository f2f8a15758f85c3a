import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Metadata } from 'nice-grpc';
import { rawRequest } from '../../services/server/testing/live-server.js';
import { everythingOn } from './everything-on.js';
import { monitoring, readmeQueries } from './files.js';
import { missing, prometheus, type Sample } from './prometheus-process.js';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const traceparent = `00-${trace}-00f067aa0ba902b7-01`;

test(
  'a Prometheus that scrapes the server answers the README’s comparison of its versions',
  { skip: missing },
  async (context) => {
    const live = await everythingOn(context);
    const rules = ['recording-rules.yml', 'alerting-rules.yml'].map((name) => join(monitoring, name));
    const store = await prometheus(context, new URL(live.metricsUrl).host, rules);
    const [comparison, ...ratios] = readmeQueries('Metrics');
    assert.ok(comparison !== undefined && ratios.length === 3);

    // What a request takes above idling can be told once there was idling.
    while ((await store.query('heartwood_idle_power_watts')).length === 0);
    // Each version is asked until Prometheus can tell of it what is to be told.
    const metadata = new Metadata({ traceparent });
    const ask = async () => {
      for (const modelVersion of ['1', '2']) await live.raw.modelInfer(rawRequest(2, { modelVersion }), { metadata });
    };
    const answered = async (query: string, enough: (samples: Sample[]) => boolean): Promise<Sample[]> => {
      for (;;) {
        await ask();
        const samples = await store.query(query);
        if (enough(samples)) return samples;
      }
    };
    const finite = (samples: Sample[]) => samples.filter(({ value }) => Number.isFinite(value) && value > 0);

    const measures = ['p95_seconds', 'items_per_compute_second', 'joules_per_request'];
    const compared = await answered(comparison, (samples) => finite(samples).length >= 6);
    const of = (measure: string, version: string) =>
      compared.find(({ metric }) => metric['measure'] === measure && metric['version'] === version)?.value;
    for (const measure of measures) {
      for (const version of ['1', '2']) assert.ok(of(measure, version)! > 0, `${measure} of version ${version}`);
    }
    assert.equal(compared.length, 6);
    for (const ratio of ratios) {
      const [sample, ...others] = await answered(ratio, (samples) => finite(samples).length >= 1);
      assert.deepEqual(others, []);
      assert.equal(sample?.metric['version'], '2');
      assert.equal(sample?.metric['model'], 'net');
    }

    // It came as OpenMetrics: the traces of the requests are there too.
    const seconds = Date.now() / 1000;
    const exemplars = (await store.get('query_exemplars', {
      query: 'heartwood_inference_duration_seconds_bucket{phase="total"}',
      start: String(seconds - 300),
      end: String(seconds + 1),
    })) as { seriesLabels: Record<string, string>; exemplars: { labels: Record<string, string> }[] }[];
    const versions = exemplars.filter((series) => series.exemplars.some(({ labels }) => labels['trace_id'] === trace));
    assert.deepEqual([...new Set(versions.map(({ seriesLabels }) => seriesLabels['version']))].sort(), ['1', '2']);

    // Every rule is evaluated without an error, and a healthy server is nobody's alarm.
    const rulesNow = async () => {
      const { groups } = (await store.get('rules', {})) as { groups: { rules: { name: string; health: string }[] }[] };
      return groups.flatMap((group) => group.rules);
    };
    let checked = await rulesNow();
    // Until each has had its turn.
    while (checked.some(({ health }) => health === 'unknown')) checked = await rulesNow();
    assert.ok(checked.length > 20);
    assert.deepEqual(
      checked.filter(({ health }) => health !== 'ok'),
      [],
    );
    const { alerts } = (await store.get('alerts', {})) as {
      alerts: { state: string; labels: Record<string, string> }[];
    };
    assert.deepEqual(
      alerts.filter(({ state }) => state === 'firing'),
      [],
    );
  },
);
