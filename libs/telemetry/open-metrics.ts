/**
 * A registry as OpenMetrics text, which alone carries exemplars. prom-client writes it too, but by changing the registry for good (its
 * counters lose their `_total`, and the plain format with it), and a scraper may ask for either.
 */
import type { Registry } from 'prom-client';

export const openMetricsType = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

interface Exemplar {
  readonly labelSet: Readonly<Record<string, string>>;
  readonly value: number;
  /** Seconds since 1970. */
  readonly timestamp: number;
}

/** A value as prom-client tells it. */
interface Value {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  /** Where it is not the metric's own: `…_bucket`, `…_sum`, `…_count`. */
  readonly metricName?: string;
  readonly exemplar?: Exemplar | null;
}

/** The registry's metrics, read now. Values and labels are the same as in the plain format, so that a series is one in both. */
export async function openMetrics(registry: Registry): Promise<string> {
  const lines: string[] = [];
  for (const metric of await registry.getMetricsAsJSON()) {
    // prom-client has no words for these.
    const { name, help, type, values } = metric as unknown as {
      name: string;
      help: string;
      type: string;
      values: readonly Value[];
    };
    const family = type === 'counter' ? name.replace(/_total$/, '') : name;
    lines.push(`# TYPE ${family} ${type}`, `# HELP ${family} ${escaped(help)}`);
    for (const { value, labels, metricName, exemplar } of values) {
      const series = `${type === 'counter' ? `${family}_total` : (metricName ?? name)}${braced(labels)}`;
      lines.push(`${series} ${numeral(value)}${exemplar ? exemplarOf(exemplar) : ''}`);
    }
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

/** Whether a scraper's Accept header would rather have OpenMetrics than the plain format. */
export function prefersOpenMetrics(accept: string | undefined): boolean {
  const ranges = (accept ?? '').split(',').map((range) => {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='));
    const weight = quality === undefined ? 1 : Number(quality.slice(2));
    return { type, weight: Number.isFinite(weight) ? weight : 0 };
  });
  const weightOf = (wanted: string) =>
    Math.max(0, ...ranges.filter(({ type }) => type === wanted).map(({ weight }) => weight));
  const open = weightOf('application/openmetrics-text');
  return open > 0 && open >= weightOf('text/plain');
}

const exemplarOf = ({ labelSet, value, timestamp }: Exemplar): string =>
  ` # ${braced(labelSet) || '{}'} ${numeral(value)} ${timestamp}`;

function braced(labels: Value['labels']): string {
  const entries = Object.entries(labels).map(([name, value]) => `${name}="${escaped(String(value))}"`);
  return entries.length === 0 ? '' : `{${entries.join(',')}}`;
}

const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

const numeral = (value: number): string =>
  Number.isFinite(value) || Number.isNaN(value) ? String(value) : value > 0 ? '+Inf' : '-Inf';
