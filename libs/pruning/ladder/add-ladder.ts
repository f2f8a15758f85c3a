import { HeartwoodError, invalid } from '../../errors/error.js';
import { asFloat32, openCheckpoint } from '../../models/checkpoint.js';
import { imageManifest } from '../../store/manifest.js';
import type { ImageManifestDraft, Published } from '../../store/publish.js';
import type { Repository } from '../../store/repository.js';
import { readPredictors, writeArtefact } from '../artefact.js';
import type { Plan } from '../plan.js';
import type { LadderWish } from './counts.js';
import { writeLadder } from './write-ladder.js';

export interface LadderRequest {
  /** The checkpoint that the version was pruned from. */
  readonly modelDirectory: string;
  readonly name: string;
  /** Undefined: the pinned one, else the newest. */
  readonly version?: number | undefined;
  readonly ladder: LadderWish;
}

/**
 * Publishes a version again with a ladder: the same plan, files and certificate, without a search. A published version is never changed, so it is a new one.
 * Throws NOT_FOUND, INVALID_ARGUMENT (a version without a plan that merges tokens, counts that cannot be), FAILED_PRECONDITION (another checkpoint).
 */
export async function addLadder(
  repository: Repository,
  { modelDirectory, name, version, ladder }: LadderRequest,
  { workDirectory, signal }: { readonly workDirectory: string; readonly signal: AbortSignal },
): Promise<Published> {
  const entry = await repository.resolve(name, version);
  const manifest = imageManifest(await repository.verify(name, entry.version, signal));
  const plan = manifest.plan as Plan | null;
  if (!plan?.tokens)
    throw invalid(`version ${entry.version} of ${name}: merges no tokens, expected one that was pruned`);
  const original = await openCheckpoint(modelDirectory);
  const checkpoint = await asFloat32(original, workDirectory);
  if (checkpoint.digest !== manifest.checkpointDigest)
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `${modelDirectory}: expected the checkpoint that version ${entry.version} of ${name} was pruned from`,
    );
  const arrays = await readPredictors(entry.directory);
  const fill = async (directory: string): Promise<ImageManifestDraft> => {
    await writeArtefact(directory, plan, checkpoint, arrays);
    const part = await writeLadder(directory, plan, checkpoint, arrays, ladder);
    const { schema: _schema, model: _model, version: _version, createdAt: _at, files: _files, ...rest } = manifest;
    const { publication: _publication, ...draft } = rest;
    return { ...draft, parent: entry.version, ladder: part };
  };
  return repository.publish(name, fill, { signal });
}
