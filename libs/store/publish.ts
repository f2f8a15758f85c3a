import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { HeartwoodError, invalid } from '../errors/error.js';
import { makeFolders } from '../errors/make-folders.js';
import { isFull, writeFailure } from '../errors/write-failure.js';
import { digestFile, flush, flushFolder, writeDurably } from './durable.js';
import {
  checkManifest,
  type ImageManifest,
  MANIFEST_FILE,
  type Manifest,
  readManifestFile,
  type TextManifest,
} from './manifest.js';
import { listVersionFolders } from './snapshot.js';
import { cleanStaging, createStaging, releaseStaging, removalPath } from './staging.js';
import { renderTritonConfig } from './triton-config.js';

/** The model file that every version has. */
export const MODEL_FILE = 'model.onnx';
/** What Triton reads of a model. */
const CONFIG_FILE = 'config.pbtxt';
/** Holds the lowest number never given to a version, so that a removed version's number does not come to mean another one. */
export const NEXT_VERSION_FILE = '.next-version';

/** What the writer of a version says of it; the store adds the rest (schema, model, version, creation time, digests). */
export type ManifestDraft = DraftOf<Manifest>;
/** Of a version of an image classifier. */
export type ImageManifestDraft = DraftOf<ImageManifest>;
/** Of a version of a language model. */
export type TextManifestDraft = DraftOf<TextManifest>;
/** Distributes over the union of the tasks. */
type DraftOf<M> = M extends Manifest ? Omit<M, 'schema' | 'model' | 'version' | 'createdAt' | 'files'> : never;

export interface PublishOptions {
  /** Publish as this number or not at all (ALREADY_EXISTS); without it the next free number is taken. */
  version?: number;
  signal?: AbortSignal;
}

export interface Published {
  readonly version: number;
  readonly directory: string;
  readonly manifest: Manifest;
}

/**
 * Publishes a version: `fill` writes model.onnx and what belongs to it into a hidden folder, which then takes its number by one
 * rename. Of two publishers that want the same number the second one's rename fails (the folder is there and not empty) and it
 * takes the next, so no lock is needed; a process killed at any moment leaves at most a hidden folder. config.pbtxt tells of the version
 * before it is there, so that a version is never there without it.
 *
 * When the draft has a `publication` that some version already carries, that version is returned and nothing is written.
 * @throws HeartwoodError INVALID_ARGUMENT for a draft that does not fit the schema, no model.onnx, or a repository that is
 *   read-only; ALREADY_EXISTS; RESOURCE_EXHAUSTED where the disk is full
 */
export async function publishVersion(
  repository: string,
  model: string,
  fill: (directory: string) => Promise<ManifestDraft>,
  options: PublishOptions = {},
): Promise<Published> {
  const parent = join(repository, model);
  const staging = await prepare(parent);
  let published = false;
  try {
    const draft = await fill(staging).catch((error: unknown) => {
      // Its other errors may be of what it reads.
      const full = isFull(error) || (error instanceof HeartwoodError && isFull(error.cause));
      throw full ? writeFailure(parent, error) : error;
    });
    options.signal?.throwIfAborted();
    const files = await digestFolder(staging, options.signal);
    await flushFolder(staging);
    for (;;) {
      const earlier = draft.publication === undefined ? undefined : await findPublication(parent, draft.publication);
      if (earlier) return earlier;
      const version = options.version ?? (await nextVersion(parent));
      if (options.version !== undefined) await refuseGivenBefore(parent, version, draft.checkpointDigest);
      const manifest = checkManifest(
        { ...draft, schema: 1, model, version, createdAt: new Date().toISOString(), files },
        `${MANIFEST_FILE} of ${model} version ${version}`,
      );
      await writeDurably(join(staging, MANIFEST_FILE), `${JSON.stringify(manifest, null, 1)}\n`);
      options.signal?.throwIfAborted();
      const directory = join(parent, String(version));
      await writeTritonConfig(parent, model, manifest);
      if (await moveTo(staging, directory)) {
        published = true;
        await flush(parent);
        await flush(repository);
        // Another publisher may have told of its version alone meanwhile; else there is nothing to write.
        await writeTritonConfig(parent, model).catch(async (error: unknown) => {
          await takeBack(parent, directory);
          throw error;
        });
        return { version, directory, manifest };
      }
      if (options.version !== undefined)
        throw new HeartwoodError('ALREADY_EXISTS', `version ${version} of ${model}: already in the repository`);
    }
  } finally {
    await releaseStaging(staging);
    // It is not to tell of a version that never came; what it tells too much does no harm.
    if (!published) await restoreTritonConfig(parent, model).catch(() => undefined);
  }
}

/** As `writeTritonConfig`; without a version there is nothing to tell of. */
async function restoreTritonConfig(parent: string, model: string): Promise<void> {
  const entries = await readdir(parent);
  if (!entries.includes(CONFIG_FILE)) return;
  // Another publisher of a first version may have told of it already.
  if (entries.some((name) => name.startsWith('.staging-'))) return;
  if ((await listVersionFolders(parent)).length > 0) return writeTritonConfig(parent, model);
  await rm(join(parent, CONFIG_FILE));
}

/** A version that Triton was not told of, the disk being full, was not published: it goes as it came, at once and whole. */
async function takeBack(parent: string, directory: string): Promise<void> {
  const removed = removalPath(parent);
  await rename(directory, removed);
  await rm(removed, { recursive: true, force: true });
}

/** A staging folder in the model's, which is made when it is missing. */
async function prepare(parent: string): Promise<string> {
  try {
    await makeFolders(parent);
    await cleanStaging(parent);
    return await createStaging(parent);
  } catch (error) {
    throw writeFailure(parent, error);
  }
}

/** The version that carries a publication id, if any. */
export async function findPublication(modelDirectory: string, publication: string): Promise<Published | undefined> {
  for (const version of (await listVersionFolders(modelDirectory)).reverse()) {
    const directory = join(modelDirectory, String(version));
    const manifest = await readManifestFile(join(directory, MANIFEST_FILE)).catch(() => undefined);
    if (manifest?.publication === publication) return { version, directory, manifest };
  }
  return undefined;
}

/**
 * Brings config.pbtxt up to the versions that are there. Runs again when another process changed them meanwhile.
 * @param coming a version that is about to be there
 */
export async function writeTritonConfig(modelDirectory: string, model: string, coming?: Manifest): Promise<void> {
  const file = join(modelDirectory, CONFIG_FILE);
  for (;;) {
    const versions = await listVersionFolders(modelDirectory);
    const manifests: Manifest[] = [];
    for (const version of versions) {
      const read = await readManifestFile(join(modelDirectory, String(version), MANIFEST_FILE)).catch(() => undefined);
      if (read) manifests.push(read);
    }
    if (coming) manifests.push(coming);
    if (manifests.length === 0) return;
    const config = renderTritonConfig(model, manifests);
    if ((await readFile(file, 'utf8').catch(() => '')) !== config) await writeDurably(file, config);
    if ((await listVersionFolders(modelDirectory)).join() === versions.join()) return;
  }
}

/**
 * Where the next number stands once a model's folder is gone with its last version: a plain file beside it, since Triton takes every folder
 * of a repository for a model.
 */
export function nextVersionBeside(modelDirectory: string): string {
  return join(dirname(modelDirectory), `.${basename(modelDirectory)}${NEXT_VERSION_FILE}`);
}

/** What is written down of a version whose number may be asked for by name: the first, and the checkpoint that it was of. */
export interface NumberMarks {
  readonly next: number;
  readonly baseline: string | undefined;
}

/** As text: the number alone in its line, as it was before there was more to say. */
export function renderMarks({ next, baseline }: NumberMarks): string {
  return `${next}\n${baseline === undefined ? '' : `1 ${baseline}\n`}`;
}

/** What the files in a model's folder and beside it say, and the versions that are there. */
export async function readMarks(modelDirectory: string): Promise<NumberMarks> {
  const files = [join(modelDirectory, NEXT_VERSION_FILE), nextVersionBeside(modelDirectory)];
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')));
  const baseline = texts.flatMap((text) => /^1 (\S+)$/m.exec(text)?.[1] ?? []).at(0);
  return { next: await nextVersion(modelDirectory), baseline };
}

/**
 * A number that is asked for and was given to a version that has gone is given to the same checkpoint again, and to no other: what was said
 * of version 1 would be said of another model. Throws FAILED_PRECONDITION.
 */
async function refuseGivenBefore(modelDirectory: string, version: number, checkpoint: string): Promise<void> {
  const present = await listVersionFolders(modelDirectory);
  const { next, baseline } = await readMarks(modelDirectory);
  if (version >= next || present.includes(version)) return;
  const known = version === 1 ? (baseline ?? (await checkpointOfChildren(modelDirectory, present))) : undefined;
  if (known === checkpoint) return;
  const model = basename(modelDirectory);
  throw new HeartwoodError(
    'FAILED_PRECONDITION',
    `version ${version} of ${model}: was removed, and its number is not given to another checkpoint: expected another name`,
  );
}

/** The checkpoint of version 1 by those that were made of it. */
async function checkpointOfChildren(modelDirectory: string, versions: readonly number[]): Promise<string | undefined> {
  for (const version of versions) {
    const file = join(modelDirectory, String(version), MANIFEST_FILE);
    const manifest = await readManifestFile(file).catch(() => undefined);
    if (manifest?.parent === 1) return manifest.checkpointDigest;
  }
  return undefined;
}

/** The lowest number above all versions that are or ever were there. */
export async function nextVersion(modelDirectory: string): Promise<number> {
  // The folders first: `remove` writes the file before a folder goes, so a number cannot be missed in both.
  const newest = (await listVersionFolders(modelDirectory)).at(-1) ?? 0;
  const marks = [join(modelDirectory, NEXT_VERSION_FILE), nextVersionBeside(modelDirectory)];
  const recorded = await Promise.all(
    marks.map(async (file) => Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10)),
  );
  return Math.max(newest + 1, ...recorded.filter(Number.isSafeInteger));
}

async function digestFolder(directory: string, signal: AbortSignal | undefined): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const entries = await readdir(directory, { withFileTypes: true });
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (!entry.isFile()) throw invalid(`${join(directory, entry.name)}: expected a version to hold plain files only`);
    if (entry.name !== MANIFEST_FILE) files[entry.name] = await digestFile(join(directory, entry.name), signal);
  }
  if (!(MODEL_FILE in files)) throw invalid(`${directory}: expected a ${MODEL_FILE} in a version to publish`);
  return files;
}

async function moveTo(staging: string, directory: string): Promise<boolean> {
  try {
    await rename(staging, directory);
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') return false;
    throw writeFailure(directory, error);
  }
}
