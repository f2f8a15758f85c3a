import { Counter, Histogram, type Registry } from '../../../libs/telemetry/metrics.js';
import type { Catalog, CatalogListener } from '../catalog/catalog.js';
import { versionLabels } from './version-labels.js';

type Labels = Readonly<Record<string, string | number>>;

/**
 * Ends the series of versions that are gone from the repository. They are some 400 numbers a version, so that a server whose versions come and
 * go would hold, and be scraped for, ever more of them.
 */
export class RemovedVersions implements CatalogListener {
  #known = new Set<string>();

  constructor(
    private readonly registry: Registry,
    private readonly report: (error: unknown) => void,
  ) {}

  changed(catalog: Catalog): void {
    const present = new Set(catalog.list().map((version) => keyOf(versionLabels(version))));
    const gone = [...this.#known].some((key) => !present.has(key));
    this.#known = present;
    if (gone) this.#sweep(present).catch(this.report);
  }

  /** What a call that outlived its version has told since the last time goes with the next one. */
  async #sweep(present: ReadonlySet<string>): Promise<void> {
    const kept = new Set([...present, keyOf(versionLabels(undefined))]);
    for (const metric of this.registry.getMetricsAsArray() as unknown[]) {
      if (!(metric instanceof Counter || metric instanceof Histogram)) continue;
      const { values } = await metric.get();
      for (const { labels } of values as readonly { readonly labels: Labels }[]) {
        if (labels.model === undefined || labels.version === undefined || kept.has(keyOf(labels))) continue;
        const { le: _bucket, ...series } = labels;
        metric.remove(series);
      }
    }
  }
}

function keyOf({ model, version }: Labels): string {
  return `${model}/${version}`;
}
