import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import { checkName, parseVersion } from '../../../libs/store/names.js';
import type { VersionEntry } from '../../../libs/store/snapshot.js';
import { isClassifier, type ServedClassifier, type ServedVersion } from './served-version.js';

export type VersionState =
  | { readonly kind: 'loading' }
  | { readonly kind: 'ready'; readonly served: ServedVersion }
  | { readonly kind: 'unavailable'; readonly reason: string };

export interface CatalogVersion {
  readonly model: string;
  readonly version: number;
  /** Undefined when heartwood.json cannot be read. */
  readonly manifest: Manifest | undefined;
  readonly state: VersionState;
}

/** The versions of a model by their numbers. */
export interface CatalogModel {
  readonly versions: Map<number, CatalogVersion>;
  pinned: number | undefined;
}

/** The versions that a server knows of, loaded or not, and which of them a request means. */
export class VersionTable {
  protected readonly models = new Map<string, CatalogModel>();

  /** All versions, by model, then number. */
  list(): CatalogVersion[] {
    return [...this.models]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([, { versions }]) => [...versions.values()].sort((a, b) => a.version - b.version));
  }

  /** The version that is pinned. Throws as `resolve`, for an unknown model. */
  pinned(model: string): number | undefined {
    return this.model(model).pinned;
  }

  /**
   * Where a request without a version goes: the pinned version, else the newest that is loaded (else the newest, which then says
   * why it is not). Throws as `resolve`, for an unknown model.
   */
  default(model: string): number {
    const { pinned, versions } = this.model(model);
    if (pinned !== undefined) return pinned;
    const numbers = [...versions.keys()].sort((a, b) => b - a);
    return numbers.find((number) => versions.get(number)?.state.kind === 'ready') ?? numbers[0] ?? 0;
  }

  /**
   * The loaded version that a request names; '' stands for the default.
   * Throws INVALID_ARGUMENT (a name or version that is none), NOT_FOUND, UNAVAILABLE with the reason.
   */
  resolve(model: string, version: string): ServedVersion {
    const number = version === '' ? this.default(model) : parseVersion(version);
    if (number === undefined)
      throw invalid(`model_version: expected a whole number of 1 or more, got ${JSON.stringify(version.slice(0, 40))}`);
    const entry = this.model(model).versions.get(number);
    if (entry === undefined)
      throw new HeartwoodError('NOT_FOUND', `version ${number} of ${model}: not in the repository`);
    const { state } = entry;
    if (state.kind === 'ready') return state.served;
    const reason = state.kind === 'loading' ? 'it is being loaded' : state.reason;
    throw new HeartwoodError('UNAVAILABLE', `version ${number} of ${model}: ${reason}`);
  }

  /** Throws INVALID_ARGUMENT, NOT_FOUND. */
  protected model(name: string): CatalogModel {
    const model = this.models.get(checkName(name, 'model_name'));
    if (model === undefined) throw new HeartwoodError('NOT_FOUND', `model ${name}: not in the repository`);
    return model;
  }

  /** Says how a version is; does nothing for a model that is not known. */
  protected set({ manifest, version }: VersionEntry, state: VersionState): void {
    const { model } = manifest;
    this.models.get(model)?.versions.set(version, { model, version, manifest, state });
  }
}

/** The versions that are loaded. */
export function readyVersions(table: VersionTable): ServedVersion[] {
  return table.list().flatMap(({ state }) => (state.kind === 'ready' ? [state.served] : []));
}

/** Those that classify images. */
export function readyClassifiers(table: VersionTable): ServedClassifier[] {
  return readyVersions(table).filter(isClassifier);
}
