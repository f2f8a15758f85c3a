import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HeartwoodError, invalid, messageOf } from '../errors/error.js';
import { MANIFEST_FILE, type Manifest, readManifestFile } from './manifest.js';
import { checkName, parseVersion } from './names.js';

/** Holds the pinned version of a model: `{ "version": 2 }`. */
export const PIN_FILE = 'pinned.json';

export interface VersionEntry {
  readonly version: number;
  readonly directory: string;
  readonly manifest: Manifest;
}

export interface ModelEntry {
  readonly name: string;
  readonly directory: string;
  /** In ascending order; only those whose manifest could be read. */
  readonly versions: readonly VersionEntry[];
  readonly pinned: number | undefined;
  /** Where a request without a version goes: the pinned version, else the newest; undefined when there is none that can be read. */
  readonly default: number | undefined;
}

export interface RepositorySnapshot {
  readonly models: ReadonlyMap<string, ModelEntry>;
  /** What stands in the repository but cannot be read as a version; each names its file. */
  readonly problems: readonly {
    readonly model: string;
    readonly version: number | undefined;
    readonly error: HeartwoodError;
  }[];
  /** Equal for two snapshots exactly when nothing changed between them. */
  readonly key: string;
}

/** Takes snapshots of a repository; remembers what it parsed, so that one of an unchanged repository costs a few stat calls. */
export class SnapshotReader {
  readonly #parsed = new Map<string, { identity: string; manifest: Manifest | HeartwoodError }>();

  constructor(private readonly directory: string) {}

  /** @throws HeartwoodError NOT_FOUND when the repository's folder is gone */
  async read(): Promise<RepositorySnapshot> {
    const models = new Map<string, ModelEntry>();
    const problems: { model: string; version: number | undefined; error: HeartwoodError }[] = [];
    const keys: string[] = [];
    const seen = new Set<string>();
    for (const name of (await this.#folders()).sort()) {
      const directory = join(this.directory, name);
      const versions: VersionEntry[] = [];
      for (const version of await listVersionFolders(directory)) {
        const folder = join(directory, String(version));
        const file = join(folder, MANIFEST_FILE);
        seen.add(file);
        const { identity, manifest } = await this.#manifest(file, name, version);
        // Removed between the list and the look: it is not there, rather than broken.
        if (manifest instanceof HeartwoodError && !(await stat(folder).catch(() => undefined))) continue;
        keys.push(`${name}/${version}:${identity}`);
        if (manifest instanceof HeartwoodError) problems.push({ model: name, version, error: manifest });
        else versions.push({ version, directory: folder, manifest });
      }
      const pin = await readPin(directory).catch((error: unknown) => asError(error));
      if (pin instanceof HeartwoodError) problems.push({ model: name, version: undefined, error: pin });
      const pinned = typeof pin === 'number' && versions.some((entry) => entry.version === pin) ? pin : undefined;
      keys.push(`${name}:${pinned ?? 'newest'}`);
      if (versions.length > 0)
        models.set(name, { name, directory, versions, pinned, default: pinned ?? versions.at(-1)?.version });
    }
    for (const file of this.#parsed.keys()) if (!seen.has(file)) this.#parsed.delete(file);
    return { models, problems, key: keys.join('\n') };
  }

  async #folders(): Promise<string[]> {
    try {
      const entries = await readdir(this.directory, { withFileTypes: true });
      return entries.filter((entry) => entry.isDirectory() && isName(entry.name)).map((entry) => entry.name);
    } catch (cause) {
      throw new HeartwoodError('NOT_FOUND', `repository ${this.directory}: ${messageOf(cause)}`, { cause });
    }
  }

  async #manifest(file: string, model: string, version: number) {
    const info = await stat(file, { bigint: true }).catch(() => undefined);
    const identity = info ? `${info.ino}.${info.mtimeNs}.${info.size}` : 'missing';
    const known = this.#parsed.get(file);
    if (known?.identity === identity) return known;
    const manifest = await readManifestFile(file).then(
      (read) => (read.version === version && read.model === model ? read : misplaced(file, read)),
      (error: unknown) => asError(error),
    );
    const entry = { identity, manifest };
    this.#parsed.set(file, entry);
    return entry;
  }
}

/** Numbers of the version folders of a model, ascending. */
export async function listVersionFolders(modelDirectory: string): Promise<number[]> {
  const entries = await readdir(modelDirectory, { withFileTypes: true }).catch(() => []);
  return entries
    .flatMap((entry) => (entry.isDirectory() ? (parseVersion(entry.name) ?? []) : []))
    .sort((a, b) => a - b);
}

/** The version that a model's pin names, or undefined without a pin. @throws HeartwoodError INVALID_ARGUMENT */
export async function readPin(modelDirectory: string): Promise<number | undefined> {
  const file = join(modelDirectory, PIN_FILE);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asError(error);
  }
  let version: unknown;
  try {
    version = (JSON.parse(text) as { version?: unknown } | null)?.version;
  } catch {
    version = undefined;
  }
  if (!Number.isSafeInteger(version)) throw invalid(`${file}: expected { "version": N }`);
  return version as number;
}

function misplaced(file: string, manifest: Manifest): HeartwoodError {
  return invalid(
    `${file}: describes version ${manifest.version} of ${JSON.stringify(manifest.model)}, not the one it lies in`,
  );
}

function isName(name: string): boolean {
  try {
    checkName(name);
    return true;
  } catch {
    return false;
  }
}

function asError(error: unknown): HeartwoodError {
  return error instanceof HeartwoodError
    ? error
    : new HeartwoodError('UNAVAILABLE', messageOf(error), { cause: error });
}
