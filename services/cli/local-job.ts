import { randomUUID } from 'node:crypto';
import { readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HeartwoodError } from '../../libs/errors/error.js';
import { makeFolders } from '../../libs/errors/make-folders.js';
import { lockFolder } from '../../libs/store/folder-lock.js';
import { FileCheckpoints } from '../../libs/store/jobs/checkpoints.js';

/** What a job of the command line is given to go on with where it was stopped. */
export interface LocalJob {
  readonly workDirectory: string;
  /** The same in every attempt of the job, and in no other job. */
  readonly publication: string;
  checkpoint<T>(stage: string, compute: () => Promise<T>): Promise<T>;
}

/**
 * Runs a job that a process does by itself, its stages kept in `<repository>/.jobs/<key>` until it has succeeded. One process at a time:
 * throws FAILED_PRECONDITION while another one is at it.
 */
export async function withLocalJob<T>(
  repository: string,
  key: string,
  work: (job: LocalJob) => Promise<T>,
): Promise<T> {
  const jobs = join(repository, '.jobs');
  const folder = join(jobs, key);
  await makeFolders(folder);
  const lock = await lockFolder(folder).catch((cause: unknown) => {
    if (!(cause instanceof HeartwoodError)) throw cause;
    throw new HeartwoodError('FAILED_PRECONDITION', `${folder}: another process is at the same job`, { cause });
  });
  const checkpoints = new FileCheckpoints(jobs);
  const workDirectory = join(folder, 'work');
  let succeeded = false;
  try {
    const result = await work({
      workDirectory,
      publication: await publicationOf(folder),
      async checkpoint<V>(stage: string, compute: () => Promise<V>): Promise<V> {
        const known = await checkpoints.read(key, stage);
        if (known) return known.value as V;
        const value = await compute();
        await checkpoints.write(key, stage, value);
        return value;
      },
    });
    succeeded = true;
    return result;
  } finally {
    await rm(workDirectory, { recursive: true, force: true });
    await lock.release();
    const kept = await readdir(join(folder, 'checkpoints')).catch(() => []);
    // What failed before anything was done leaves nothing to go on with.
    if (succeeded || kept.length === 0) await rm(folder, { recursive: true, force: true });
    await rmdir(jobs).catch(() => undefined);
  }
}

async function publicationOf(folder: string): Promise<string> {
  const file = join(folder, 'publication');
  const known = await readFile(file, 'utf8').catch(() => '');
  if (known !== '') return known;
  const fresh = randomUUID();
  await writeFile(file, fresh);
  return fresh;
}
