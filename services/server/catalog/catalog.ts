import { HeartwoodError, invalid, messageOf } from '../../../libs/errors/error.js';
import type { Manifest } from '../../../libs/store/manifest.js';
import { checkName, parseVersion } from '../../../libs/store/names.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { ModelEntry, RepositorySnapshot, VersionEntry } from '../../../libs/store/snapshot.js';
import type { Logger } from '../../../libs/telemetry/log.js';
import type { ServedVersion } from './served-version.js';

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

interface CatalogModel {
  readonly versions: Map<number, CatalogVersion>;
  pinned: number | undefined;
}

/** What a catalog tells of: metrics and logs hang on it. */
export interface CatalogListener {
  /** After every look at the repository that found a change. */
  changed(catalog: Catalog): void;
}

/**
 * The versions that are served, kept in step with the repository. A version that cannot be loaded stays in the catalog with the
 * reason, and touches nothing else; one that is gone from the repository takes no new requests and is freed when those it has are done.
 */
export class Catalog {
  readonly #models = new Map<string, CatalogModel>();
  readonly #retiring = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #key: string | undefined;
  #unreadable: string | undefined;
  #loop: Promise<void> | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly repository: Repository,
    private readonly load: (entry: VersionEntry, signal: AbortSignal) => Promise<ServedVersion>,
    private readonly listener: CatalogListener,
    private readonly log: Logger,
  ) {}

  /** Looks at the repository once and brings the catalog in step; looks that are asked for at once come one after the other. */
  sync(): Promise<void> {
    const turn = this.#turn.then(() => this.#sync());
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #sync(): Promise<void> {
    const snapshot = await this.#look();
    if (snapshot === undefined || snapshot.key === this.#key) return;
    this.#key = snapshot.key;
    for (const { model, version, error } of snapshot.problems) {
      this.log.warn({ model, version, reason: error.message }, 'the repository has something that cannot be read');
    }
    this.#drop(snapshot);
    const added = this.#enter(snapshot);
    this.listener.changed(this);
    // One after the other: loading is the worker's work, and what is loaded first serves first.
    for (const entry of added) {
      if (this.#stop.signal.aborted) return;
      await this.#load(entry);
      this.listener.changed(this);
    }
  }

  /** Keeps in step from now on, a look every `pollMs`. */
  start(pollMs: number): void {
    this.#loop ??= (async () => {
      while (await this.#pause(pollMs)) await this.sync();
    })();
  }

  /** Ends the looks and frees every version once its requests are done. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    for (const { versions } of this.#models.values()) for (const version of versions.values()) this.#retire(version);
    this.#models.clear();
    await Promise.all(this.#retiring);
  }

  /** All versions, by model, then number. */
  list(): CatalogVersion[] {
    return [...this.#models]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([, { versions }]) => [...versions.values()].sort((a, b) => a.version - b.version));
  }

  /** The version that is pinned. Throws as `resolve`, for an unknown model. */
  pinned(model: string): number | undefined {
    return this.#model(model).pinned;
  }

  /**
   * Where a request without a version goes: the pinned version, else the newest that is loaded (else the newest, which then says
   * why it is not). Throws as `resolve`, for an unknown model.
   */
  default(model: string): number {
    const { pinned, versions } = this.#model(model);
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
    const entry = this.#model(model).versions.get(number);
    if (entry === undefined)
      throw new HeartwoodError('NOT_FOUND', `version ${number} of ${model}: not in the repository`);
    const { state } = entry;
    if (state.kind === 'ready') return state.served;
    const reason = state.kind === 'loading' ? 'it is being loaded' : state.reason;
    throw new HeartwoodError('UNAVAILABLE', `version ${number} of ${model}: ${reason}`);
  }

  #model(name: string): CatalogModel {
    const model = this.#models.get(checkName(name, 'model_name'));
    if (model === undefined) throw new HeartwoodError('NOT_FOUND', `model ${name}: not in the repository`);
    return model;
  }

  /** A repository that cannot be read for a while changes nothing: what is loaded goes on. */
  async #look(): Promise<RepositorySnapshot | undefined> {
    try {
      const snapshot = await this.repository.snapshot();
      this.#unreadable = undefined;
      return snapshot;
    } catch (thrown) {
      const reason = messageOf(thrown);
      if (reason !== this.#unreadable) this.log.warn({ reason }, 'the repository cannot be read');
      this.#unreadable = reason;
      return undefined;
    }
  }

  /** Takes out what the snapshot no longer has, or has anew under the same number. */
  #drop(snapshot: RepositorySnapshot): void {
    for (const [name, model] of this.#models) {
      const present = new Map(versionsOf(snapshot.models.get(name)));
      for (const [number, version] of model.versions) {
        if (present.get(number)?.manifest === version.manifest && version.manifest !== undefined) continue;
        model.versions.delete(number);
        this.#retire(version);
        if (version.manifest) this.log.info({ model: name, version: number }, 'version removed');
      }
      if (model.versions.size === 0) this.#models.delete(name);
    }
  }

  /** Puts in what is new, as loading or unreadable; what there is to load. */
  #enter(snapshot: RepositorySnapshot): VersionEntry[] {
    const added: VersionEntry[] = [];
    const modelOf = (name: string): CatalogModel => {
      const model = this.#models.get(name) ?? { versions: new Map(), pinned: undefined };
      this.#models.set(name, model);
      return model;
    };
    for (const [name, entry] of snapshot.models) {
      const model = modelOf(name);
      model.pinned = entry.pinned;
      for (const version of entry.versions) {
        if (model.versions.has(version.version)) continue;
        this.#set(version, { kind: 'loading' });
        added.push(version);
      }
    }
    for (const { model, version, error } of snapshot.problems) {
      if (version === undefined) continue;
      const state = { kind: 'unavailable', reason: error.message } as const;
      modelOf(model).versions.set(version, { model, version, manifest: undefined, state });
    }
    return added;
  }

  async #load(entry: VersionEntry): Promise<void> {
    const { model, version } = entry.manifest;
    try {
      const served = await this.load(entry, this.#stop.signal);
      this.#set(entry, { kind: 'ready', served });
      this.log.info({ model, version }, 'version loaded');
    } catch (thrown) {
      if (this.#stop.signal.aborted) return;
      const reason = messageOf(thrown);
      this.#set(entry, { kind: 'unavailable', reason });
      this.log.error({ model, version, reason }, 'version cannot be loaded');
    }
  }

  #set({ manifest, version }: VersionEntry, state: VersionState): void {
    const { model } = manifest;
    this.#models.get(model)?.versions.set(version, { model, version, manifest, state });
  }

  #retire({ model, version, state }: CatalogVersion): void {
    if (state.kind !== 'ready') return;
    const retiring = state.served.retire().then(
      () => this.log.debug({ model, version }, 'version freed'),
      (error: unknown) => this.log.error({ model, version, err: error }, 'version could not be freed'),
    );
    this.#retiring.add(retiring);
    void retiring.finally(() => this.#retiring.delete(retiring));
  }

  /** Resolves to false when the catalog is stopped. */
  #pause(milliseconds: number): Promise<boolean> {
    const { signal } = this.#stop;
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        resolve(false);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', wake);
        resolve(true);
      }, milliseconds);
      signal.addEventListener('abort', wake, { once: true });
    });
  }
}

function versionsOf(model: ModelEntry | undefined): [number, VersionEntry][] {
  return (model?.versions ?? []).map((entry) => [entry.version, entry]);
}
