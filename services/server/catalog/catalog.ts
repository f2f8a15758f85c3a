import { HeartwoodError, messageOf } from '../../../libs/errors/error.js';
import { checkName } from '../../../libs/store/names.js';
import type { Repository } from '../../../libs/store/repository.js';
import type { ModelEntry, RepositorySnapshot, VersionEntry } from '../../../libs/store/snapshot.js';
import type { Logger } from '../../../libs/telemetry/log.js';
import {
  everyModel,
  type LoadControl,
  type LoadSettings,
  noModel,
  NOT_LOADED,
  type Scope,
  scopeAtStart,
  UNLOADED,
} from './load-control.js';
import { Attempts } from './attempts.js';
import { pause } from './pause.js';
import type { ServedVersion } from './served-version.js';
import { type CatalogModel, type CatalogVersion, VersionTable } from './version-table.js';

/** Whether a version that is not loaded is to be tried. */
type Retry = (model: string, version: number) => boolean;

const always: Retry = () => true;
const never: Retry = () => false;

/** What a catalog tells of: metrics and logs hang on it. */
export interface CatalogListener {
  /** After every look at the repository that found a change. */
  changed(catalog: Catalog): void;
}

/**
 * The versions of the repository and those of them that are served, kept in step as far as the load control says: with `poll` at every
 * look; otherwise what is loaded stays as it is until somebody asks, and only pins and what is new to the repository are taken up.
 * A version that cannot be loaded stays in the catalog with the reason, and touches nothing else; one that is gone from the repository
 * takes no new requests and is freed when those it has are done.
 */
export class Catalog extends VersionTable {
  readonly #retiring = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #attempts = new Attempts();
  #key: string | undefined;
  #unreadable: string | undefined;
  #begun = false;
  #loop: Promise<void> | undefined;
  #turn: Promise<void> = Promise.resolve();

  constructor(
    private readonly repository: Repository,
    private readonly load: (entry: VersionEntry, signal: AbortSignal) => Promise<ServedVersion>,
    private readonly listener: CatalogListener,
    private readonly log: Logger,
    private readonly settings: LoadSettings = { control: 'poll', atStart: [] },
  ) {
    super();
  }

  get control(): LoadControl {
    return this.settings.control;
  }

  /**
   * Looks at the repository once and brings the catalog in step, as far as the load control says; looks that load come one after the
   * other, those that cannot do not wait for them.
   */
  sync(): Promise<void> {
    if (!this.#begun) {
      this.#begun = true;
      return this.#inTurn(() => this.#begin());
    }
    if (this.control !== 'poll') return this.#sync(noModel);
    return this.#inTurn(() => this.#sync(everyModel, (model, version) => this.#attempts.due(model, version)));
  }

  /** The first look. A call may have entered versions as not loaded meanwhile, so those are tried too. */
  async #begin(): Promise<void> {
    await this.#sync(scopeAtStart(this.settings), always);
    for (const model of this.settings.atStart) {
      if (model !== '*' && !this.models.has(model))
        this.log.warn({ model }, 'a model that is to be loaded at the start is not in the repository');
    }
  }

  /**
   * Loads every version of a model that is new or changed, and tries those again that could not be loaded.
   * Throws NOT_FOUND (not in the repository), UNAVAILABLE (the repository cannot be read, or the catalog is stopped),
   * FAILED_PRECONDITION naming the versions that cannot be loaded and why; the others are served.
   */
  loadModel(model: string): Promise<void> {
    checkName(model, 'model_name');
    return this.#inTurn(async () => {
      await this.#sync((name) => name === model, always);
      if (this.#unreadable !== undefined)
        throw new HeartwoodError('UNAVAILABLE', `the repository cannot be read: ${this.#unreadable}`);
      if (this.#stop.signal.aborted) throw new HeartwoodError('UNAVAILABLE', 'the server is stopping');
      const failed = [...this.model(model).versions.values()].flatMap(({ version, state }) =>
        state.kind === 'unavailable' ? [`version ${version} is at UNAVAILABLE state: ${state.reason}`] : [],
      );
      if (failed.length > 0) throw new HeartwoodError('FAILED_PRECONDITION', failed.join('; '));
    });
  }

  /** Takes a model out of service, and resolves when the requests it had are answered and it is freed. */
  async unloadModel(model: string): Promise<void> {
    checkName(model, 'model_name');
    const freed = await this.#inTurn(() => {
      const retiring: Promise<void>[] = [];
      for (const version of this.models.get(model)?.versions.values() ?? []) {
        if (version.state.kind !== 'ready') continue;
        retiring.push(this.#retire(version));
        const state = { kind: 'unavailable', reason: UNLOADED } as const;
        this.models.get(model)?.versions.set(version.version, { ...version, state });
        this.log.info({ model, version: version.version }, 'version unloaded');
      }
      this.listener.changed(this);
      return Promise.resolve(retiring);
    });
    await Promise.all(freed);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  /** @param retry which of those that were not or could not be loaded before are to be tried */
  async #sync(scope: Scope, retry: Retry = never): Promise<void> {
    const snapshot = await this.#look();
    if (snapshot === undefined) return;
    if (snapshot.key === this.#key && retry !== always && !this.#anyToRetry(scope, retry)) return;
    if (snapshot.key !== this.#key) {
      for (const { model, version, error } of snapshot.problems) {
        this.log.warn({ model, version, reason: error.message }, 'the repository has something that cannot be read');
      }
    }
    this.#key = snapshot.key;
    this.#drop(snapshot, scope, retry);
    const added = this.#enter(snapshot, scope);
    this.listener.changed(this);
    // One after the other: loading is the worker's work, and what is loaded first serves first.
    for (const entry of added) {
      if (this.#stop.signal.aborted) return;
      await this.#load(entry);
      this.listener.changed(this);
    }
  }

  #anyToRetry(scope: Scope, retry: Retry): boolean {
    return this.list().some(
      ({ model, version, state }) => state.kind === 'unavailable' && scope(model) && retry(model, version),
    );
  }

  /** Keeps in step from now on, a look every `pollMs`; does nothing where the load control is not to poll. */
  start(pollMs: number): void {
    if (this.control !== 'poll') return;
    this.#loop ??= (async () => {
      while (await pause(pollMs, this.#stop.signal)) await this.sync();
    })();
  }

  /** Ends the looks and frees every version once its requests are done. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    await this.#turn;
    for (const { versions } of this.models.values())
      for (const version of versions.values()) void this.#retire(version);
    this.models.clear();
    await Promise.all(this.#retiring);
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

  /** Takes out what the snapshot no longer has, or has anew under the same number; out of scope only what is not loaded. */
  #drop(snapshot: RepositorySnapshot, scope: Scope, retry: Retry): void {
    for (const [name, model] of this.models) {
      const present = new Map(versionsOf(snapshot.models.get(name)));
      const inScope = scope(name);
      for (const [number, version] of model.versions) {
        const unavailable = version.state.kind === 'unavailable';
        const unchanged = version.manifest !== undefined && present.get(number)?.manifest === version.manifest;
        const again = unavailable && inScope && retry(name, number);
        if (unchanged ? !again : !inScope && !unavailable) continue;
        model.versions.delete(number);
        if (!unchanged) this.#attempts.forget(name, number);
        void this.#retire(version);
        if (version.manifest && !unchanged) this.log.info({ model: name, version: number }, 'version removed');
      }
      if (model.versions.size === 0) this.models.delete(name);
    }
  }

  /** Puts in what is new, as loading, not loaded or unreadable; what there is to load. */
  #enter(snapshot: RepositorySnapshot, scope: Scope): VersionEntry[] {
    const added: VersionEntry[] = [];
    const modelOf = (name: string): CatalogModel => {
      const model = this.models.get(name) ?? { versions: new Map(), pinned: undefined };
      this.models.set(name, model);
      return model;
    };
    for (const [name, entry] of snapshot.models) {
      const model = modelOf(name);
      model.pinned = entry.pinned;
      for (const version of entry.versions) {
        if (model.versions.has(version.version)) continue;
        if (scope(name)) {
          this.set(version, { kind: 'loading' });
          added.push(version);
        } else this.set(version, { kind: 'unavailable', reason: NOT_LOADED });
      }
    }
    for (const { model, version, error } of snapshot.problems) {
      if (version === undefined || this.models.get(model)?.versions.has(version)) continue;
      const state = { kind: 'unavailable', reason: error.message } as const;
      modelOf(model).versions.set(version, { model, version, manifest: undefined, state });
    }
    return added;
  }

  async #load(entry: VersionEntry): Promise<void> {
    const { model, version } = entry.manifest;
    try {
      const served = await this.load(entry, this.#stop.signal);
      this.#attempts.succeeded(model, version);
      this.set(entry, { kind: 'ready', served });
      this.log.info({ model, version }, 'version loaded');
      void served.broken.then((reason) => this.#broke(entry, served, reason));
    } catch (thrown) {
      if (this.#stop.signal.aborted) return;
      const reason = messageOf(thrown);
      this.#attempts.failed(model, version, thrown);
      this.set(entry, { kind: 'unavailable', reason });
      this.log.error({ model, version, reason }, 'version cannot be loaded');
    }
  }

  /** Its workers died and could not load it again: it is not served any more, and is tried as one that could not be loaded. */
  #broke(entry: VersionEntry, served: ServedVersion, error: HeartwoodError): void {
    const { model, version } = entry.manifest;
    const present = this.models.get(model)?.versions.get(version);
    if (present?.state.kind !== 'ready' || present.state.served !== served || this.#stop.signal.aborted) return;
    this.#attempts.failed(model, version, error);
    this.set(entry, { kind: 'unavailable', reason: error.message });
    this.log.error({ model, version, reason: error.message }, 'version is lost');
    this.listener.changed(this);
    void this.#retire(present);
  }

  #retire({ model, version, state }: CatalogVersion): Promise<void> {
    if (state.kind !== 'ready') return Promise.resolve();
    const retiring = state.served.retire().then(
      () => this.log.debug({ model, version }, 'version freed'),
      (error: unknown) => this.log.error({ model, version, err: error }, 'version could not be freed'),
    );
    this.#retiring.add(retiring);
    return retiring.finally(() => this.#retiring.delete(retiring));
  }
}

function versionsOf(model: ModelEntry | undefined): [number, VersionEntry][] {
  return (model?.versions ?? []).map((entry) => [entry.version, entry]);
}
