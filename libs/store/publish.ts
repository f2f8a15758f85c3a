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
 * takes the next, so no lock is needed; a process killed at any moment leaves at most a hidden folder.
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
      const manifest = checkManifest(
        { ...draft, schema: 1, model, version, createdAt: new Date().toISOString(), files },
        `${MANIFEST_FILE} of ${model} version ${version}`,
      );
      await writeDurably(join(staging, MANIFEST_FILE), `${JSON.stringify(manifest, null, 1)}\n`);
      options.signal?.throwIfAborted();
      const directory = join(parent, String(version));
      if (await moveTo(staging, directory)) {
        await flush(parent);
        await flush(repository);
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
  }
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

/** Brings config.pbtxt up to the versions that are there. Runs again when another process changed them meanwhile. */
export async function writeTritonConfig(modelDirectory: string, model: string): Promise<void> {
  for (;;) {
    const versions = await listVersionFolders(modelDirectory);
    const manifests: Manifest[] = [];
    for (const version of versions) {
      const read = await readManifestFile(join(modelDirectory, String(version), MANIFEST_FILE)).catch(() => undefined);
      if (read) manifests.push(read);
    }
    if (manifests.length === 0) return;
    await writeDurably(join(modelDirectory, 'config.pbtxt'), renderTritonConfig(model, manifests));
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
