import { IMAGE_CLASSIFICATION, type Manifest } from '../../../libs/store/manifest.js';
import type { TextPart } from '../../../libs/store/text-part.js';
import { checkName, checkVersion } from '../../../libs/store/names.js';
import type { Repository } from '../../../libs/store/repository.js';
import {
  type ListVersionsRequest,
  type ModelVersion,
  type PromoteRequest,
  type ServingServiceImplementation,
  type TextFacts,
  type VersionFacts,
  VersionState,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import type { Catalog } from '../catalog/catalog.js';
import type { CatalogVersion } from '../catalog/version-table.js';

const states = {
  loading: VersionState.VERSION_STATE_LOADING,
  ready: VersionState.VERSION_STATE_READY,
  unavailable: VersionState.VERSION_STATE_UNAVAILABLE,
} as const;

/** The calls of heartwood.serving.v1; those that run models have a file each. */
export function serving(
  catalog: Catalog,
  repository: Repository,
  calls: Pick<ServingServiceImplementation, 'classify' | 'compare' | 'generate'>,
): ServingServiceImplementation {
  return {
    ...calls,
    async listVersions({ model }: ListVersionsRequest) {
      if (model !== '') catalog.default(model);
      const versions = catalog.list().filter((version) => model === '' || version.model === model);
      return Promise.resolve({ versions: versions.map((version) => describe(catalog, version)) });
    },
    async promote({ model, version }: PromoteRequest) {
      checkName(model, 'model');
      if (version === 0n) await repository.unpin(model);
      else await repository.promote(model, checkVersion(Number(version)));
      // The answer says that it is so: the next request without a version goes there.
      await catalog.sync();
      return {};
    },
  };
}

function describe(catalog: Catalog, { model, version, manifest, state }: CatalogVersion): ModelVersion {
  return {
    model,
    version: BigInt(version),
    state: states[state.kind],
    reason: state.kind === 'unavailable' ? state.reason : '',
    default: catalog.default(model) === version,
    pinned: catalog.pinned(model) === version,
    facts: manifest ? facts(manifest) : undefined,
  };
}

function facts(manifest: Manifest): VersionFacts {
  const { architecture, parent, method, flops, budget } = manifest;
  return {
    architecture,
    parent: BigInt(parent ?? 0),
    policy: method?.policy ?? '',
    denseFlops: flops.dense,
    meanFlops: flops.mean,
    defaultBudget: budget?.default,
    budgetCeiling: budget?.ceiling,
    labels: manifest.task === IMAGE_CLASSIFICATION ? [...manifest.labels] : [],
    task: manifest.task,
    text: manifest.task === IMAGE_CLASSIFICATION ? undefined : textFacts(manifest.text),
  };
}

function textFacts({ context, vocabulary, caches, bits }: TextPart): TextFacts {
  return { context, vocabulary, heads: caches.map(({ heads }) => heads), bits: bits ?? 0 };
}
