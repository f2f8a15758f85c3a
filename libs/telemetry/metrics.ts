import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { collectDefaultMetrics, Histogram, type HistogramConfiguration, Registry } from 'prom-client';
import { HeartwoodError, messageOf } from '../errors/error.js';
import { openMetrics, openMetricsType, prefersOpenMetrics } from './open-metrics.js';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

/**
 * How long a connection may wait for its next request: longer than the usual pause between two scrapes. Were it shorter (Node's is 5 s), a client
 * that comes back could find its connection closed under its request.
 */
const keepAliveMs = 180_000;

/** Upper bounds, in seconds, for what takes from a tenth of a millisecond to ten seconds. */
export const durationBuckets: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/**
 * A histogram whose observations may say what they are an example of (`exemplarLabels`); scrapers that ask for OpenMetrics see it.
 * prom-client allows exemplars only in a registry that never writes the plain format, hence the registration by hand.
 */
export function exemplarHistogram<Label extends string>(
  registry: Registry,
  configuration: Omit<HistogramConfiguration<Label>, 'registers' | 'enableExemplars'>,
): Histogram<Label> {
  const histogram = new Histogram<Label>({ ...configuration, registers: [], enableExemplars: true });
  registry.registerMetric(histogram);
  return histogram;
}

/** A registry of its own (two servers in one process do not share counts), with the metrics of the process itself. */
export function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  return registry;
}

export interface MetricsEndpoint {
  /** The port taken, also when 0 was asked for. */
  readonly port: number;
  close(): Promise<void>;
}

/** What else is asked of the port of the metrics. */
export interface MetricsOptions {
  /** Rejects with the reason while the service cannot do its work: `/readyz` then says 503. `/healthz` answers as long as the process does. */
  readonly health?: () => Promise<void>;
}

/**
 * Serves a registry at `/metrics` for Prometheus, on a port of its own: as OpenMetrics, exemplars included, to who asks for that, else as
 * plain text. A service without a port for gRPC is probed here.
 * Throws UNAVAILABLE when the port cannot be had.
 */
export async function serveMetrics(
  registry: Registry,
  port: number,
  host: string,
  { health }: MetricsOptions = {},
): Promise<MetricsEndpoint> {
  const server = createServer((request, response) => {
    const path = request.url?.split('?')[0];
    const say = (status: number, line: string) =>
      response.writeHead(status, { 'content-type': 'text/plain' }).end(`${line}\n`);
    if (health && path === '/healthz') return void say(200, 'alive');
    if (health && path === '/readyz') {
      return void health().then(
        () => say(200, 'ready'),
        (error: unknown) => say(503, messageOf(error)),
      );
    }
    if (path !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('the metrics are at /metrics\n');
      return;
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
      return;
    }
    const open = prefersOpenMetrics(request.headers.accept);
    const type = open ? openMetricsType : registry.contentType;
    (open ? openMetrics(registry) : registry.metrics()).then(
      (text) => response.writeHead(200, { 'content-type': type, vary: 'accept' }).end(text),
      (error: unknown) => response.writeHead(500, { 'content-type': 'text/plain' }).end(`${messageOf(error)}\n`),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new HeartwoodError('UNAVAILABLE', `metrics port ${port}: ${error.message}`, { cause: error })),
    );
    server.listen(port, host, resolve);
  });
  server.keepAliveTimeout = keepAliveMs;
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
