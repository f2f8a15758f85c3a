import { access, constants, readdir, rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { HeartwoodError, messageOf } from '../errors/error.js';
import { makeFolders } from '../errors/make-folders.js';
import { writeFailure } from '../errors/write-failure.js';
import { digestFile, flush, writeDurably } from './durable.js';
import { MANIFEST_FILE, type Manifest, readManifestFile } from './manifest.js';
import { checkName, checkVersion } from './names.js';
import {
  findPublication,
  type ManifestDraft,
  NEXT_VERSION_FILE,
  nextVersionBeside,
  type Published,
  publishVersion,
  readMarks,
  renderMarks,
  type PublishOptions,
  writeTritonConfig,
} from './publish.js';
import {
  listVersionFolders,
  PIN_FILE,
  readPin,
  type RepositorySnapshot,
  SnapshotReader,
  type VersionEntry,
} from './snapshot.js';
import { cleanStaging, removalPath } from './staging.js';

export interface OpenRepositoryOptions {
  /** Make the folder when it is missing, and clear away what killed publishers left (default: false, for readers). */
  create?: boolean;
}

/**
 * A model repository in Triton's layout:
 * `<repository>/<model>/config.pbtxt`, `<repository>/<model>/<version>/{model.onnx, external data, heartwood.json}`.
 * Versions never change once they are there. Every method that takes a model's name refuses one that could leave the folder.
 */
export class Repository {
  readonly #reader: SnapshotReader;

  /** @internal use {@link openRepository} */
  constructor(readonly directory: string) {
    this.#reader = new SnapshotReader(directory);
  }

  /** Everything that is there now; cheap enough to call every second (unchanged manifests are not read again). */
  snapshot(): Promise<RepositorySnapshot> {
    return this.#reader.read();
  }

  /** Names of the models that have at least one version, sorted. */
  async listModels(): Promise<string[]> {
    return [...(await this.snapshot()).models.keys()];
  }

  /** Versions of a model, ascending. @throws HeartwoodError NOT_FOUND */
  async listVersions(model: string): Promise<number[]> {
    const versions = await listVersionFolders(this.#modelDirectory(model));
    if (versions.length === 0) throw this.#notFound(model);
    return versions;
  }

  /** Folder of a version, whether it exists or not. @throws HeartwoodError INVALID_ARGUMENT */
  versionDirectory(model: string, version: number): string {
    return join(this.#modelDirectory(model), String(checkVersion(version)));
  }

  /** @throws HeartwoodError NOT_FOUND; INVALID_ARGUMENT naming the field of heartwood.json that is wrong */
  async readManifest(model: string, version: number): Promise<Manifest> {
    const directory = this.versionDirectory(model, version);
    if (!(await isDirectory(directory))) throw this.#notFound(model, version);
    return readManifestFile(join(directory, MANIFEST_FILE));
  }

  /** A version, or without a number the pinned one, else the newest. @throws HeartwoodError NOT_FOUND, INVALID_ARGUMENT */
  async resolve(model: string, version?: number): Promise<VersionEntry> {
    const number = version ?? (await this.pinned(model)) ?? (await this.listVersions(model)).at(-1)!;
    return {
      version: number,
      directory: this.versionDirectory(model, number),
      manifest: await this.readManifest(model, number),
    };
  }

  /** See {@link publishVersion}. */
  async publish(
    model: string,
    fill: (directory: string) => Promise<ManifestDraft>,
    options: PublishOptions = {},
  ): Promise<Published> {
    if (options.version !== undefined) checkVersion(options.version);
    return publishVersion(this.directory, checkName(model), fill, options);
  }

  /** The version that a publication id stands for, if it was published: to skip work whose result is already there. */
  async findPublication(model: string, publication: string): Promise<Published | undefined> {
    return findPublication(this.#modelDirectory(model), publication);
  }

  /**
   * Checks that a version holds exactly the files of its manifest, unchanged (SHA-256, streamed).
   * @throws HeartwoodError FAILED_PRECONDITION naming the first file that differs
   */
  async verify(model: string, version: number, signal?: AbortSignal): Promise<Manifest> {
    const directory = this.versionDirectory(model, version);
    const manifest = await this.readManifest(model, version);
    const differs = (name: string, what: string, cause?: unknown) =>
      new HeartwoodError('FAILED_PRECONDITION', `${join(directory, name)}: ${what}`, { cause });
    for (const name of await readdir(directory))
      if (name !== MANIFEST_FILE && !(name in manifest.files)) throw differs(name, `not listed in ${MANIFEST_FILE}`);
    for (const [name, expected] of Object.entries(manifest.files)) {
      const actual = await digestFile(join(directory, name), signal).catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw differs(name, messageOf(cause), cause);
      });
      if (actual !== expected) throw differs(name, `expected SHA-256 ${expected}, got ${actual}`);
    }
    return manifest;
  }

  /** The pinned version of a model, if one is pinned. */
  async pinned(model: string): Promise<number | undefined> {
    return readPin(this.#modelDirectory(model));
  }

  /** Makes a version the default until another is promoted or it is unpinned. @throws HeartwoodError NOT_FOUND */
  async promote(model: string, version: number): Promise<Manifest> {
    const manifest = await this.readManifest(model, version);
    await writeDurably(join(this.#modelDirectory(model), PIN_FILE), `${JSON.stringify({ version })}\n`);
    return manifest;
  }

  /** Makes the newest version the default again. @throws HeartwoodError NOT_FOUND */
  async unpin(model: string): Promise<void> {
    await this.listVersions(model);
    const pin = join(this.#modelDirectory(model), PIN_FILE);
    await rm(pin, { force: true }).catch((error: unknown) => {
      throw writeFailure(pin, error);
    });
  }

  /**
   * Deletes a version; it vanishes at once and whole, and its number is not given again.
   * @param options.force also when it is pinned (which unpins it) or when other versions were made from it
   * @throws HeartwoodError NOT_FOUND, FAILED_PRECONDITION
   */
  async remove(model: string, version: number, options: { force?: boolean } = {}): Promise<void> {
    const parent = this.#modelDirectory(model);
    const directory = this.versionDirectory(model, version);
    if (!(await isDirectory(directory))) throw this.#notFound(model, version);
    const pinned = (await this.pinned(model)) === version;
    if (!options.force) await this.#refuseNeeded(model, version, pinned);
    const marks = await readMarks(parent);
    const first = version === 1 ? await this.readManifest(model, 1).catch(() => undefined) : undefined;
    const baseline = first?.checkpointDigest ?? marks.baseline;
    await writeDurably(join(parent, NEXT_VERSION_FILE), renderMarks({ ...marks, baseline }));
    if (pinned) await rm(join(parent, PIN_FILE), { force: true });
    const removed = removalPath(parent);
    await rename(directory, removed).catch((error: unknown) => {
      throw writeFailure(directory, error);
    });
    await flush(parent);
    await rm(removed, { recursive: true, force: true });
    if ((await listVersionFolders(parent)).length > 0) await writeTritonConfig(parent, model);
    else await this.#removeEmpty(parent);
  }

  async #refuseNeeded(model: string, version: number, pinned: boolean): Promise<void> {
    const refuse = (why: string) =>
      new HeartwoodError(
        'FAILED_PRECONDITION',
        `version ${version} of ${model}: ${why}; --force removes it all the same`,
      );
    if (pinned) throw refuse('is pinned as the default');
    for (const other of await this.listVersions(model)) {
      if (other === version) continue;
      const manifest = await this.readManifest(model, other).catch(() => undefined);
      // A manifest that cannot be read may be anyone's child; only the baseline is kept for its sake.
      if (manifest ? manifest.parent === version : version === 1) throw refuse(`version ${other} was made from it`);
    }
  }

  async #removeEmpty(parent: string): Promise<void> {
    await cleanStaging(parent);
    // A publisher may be at work in a staging folder; then the model's folder stays for it.
    const entries = await readdir(parent, { withFileTypes: true });
    if (entries.some((entry) => entry.isDirectory())) return;
    await writeDurably(nextVersionBeside(parent), renderMarks(await readMarks(parent)));
    const removed = removalPath(this.directory);
    await rename(parent, removed);
    await rm(removed, { recursive: true, force: true });
  }

  #modelDirectory(model: string): string {
    return join(this.directory, checkName(model));
  }

  #notFound(model: string, version?: number): HeartwoodError {
    const what = version === undefined ? `model ${model}` : `version ${version} of ${model}`;
    return new HeartwoodError('NOT_FOUND', `${what}: not in the repository ${this.directory}`);
  }
}

/**
 * Opens a model repository.
 * @throws HeartwoodError NOT_FOUND when the folder is missing and not to be created; INVALID_ARGUMENT when it is no folder
 */
export async function openRepository(directory: string, options: OpenRepositoryOptions = {}): Promise<Repository> {
  const path = resolve(directory);
  if (options.create) {
    await makeFolders(path, `repository ${path}`);
    // Said at once: whoever wants it made wants to write to it.
    await access(path, constants.W_OK).catch((cause: unknown) => {
      throw writeFailure(`repository ${path}`, cause);
    });
    await cleanStaging(path);
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (entry.isDirectory()) await cleanStaging(join(path, entry.name));
  } else if (!(await isDirectory(path))) {
    throw new HeartwoodError('NOT_FOUND', `repository ${path}: expected a folder`);
  }
  return new Repository(path);
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}
