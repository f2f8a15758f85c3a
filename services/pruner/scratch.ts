import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolders } from '../../libs/errors/make-folders.js';
import { writeFailure } from '../../libs/errors/write-failure.js';
import { isLocked, lockFolder } from '../../libs/store/folder-lock.js';

const PREFIX = 'heartwood-shards-';
/** A folder without a lock may be one that is locked in a moment, or of a process that had none. */
const UNLOCKED_MS = 24 * 60 * 60 * 1000;

export interface Scratch {
  readonly path: string;
  /** Deletes it with what is in it. */
  remove(): Promise<void>;
}

/**
 * Makes a folder of this process alone below `directory`, which others may have too, and deletes those of processes that are gone.
 * @throws HeartwoodError as {@link writeFailure}, naming `directory`
 */
export async function openScratch(directory: string): Promise<Scratch> {
  try {
    await makeFolders(directory);
    await sweep(directory);
    const path = await mkdtemp(join(directory, PREFIX));
    return { path, remove: removal(path, await lockFolder(path)) };
  } catch (cause) {
    throw writeFailure(directory, cause);
  }
}

async function sweep(directory: string): Promise<void> {
  const names = await readdir(directory);
  for (const name of names.filter((each) => each.startsWith(PREFIX))) {
    const path = join(directory, name);
    if (!(await isLocked(path)) && !(await isOld(path))) continue;
    // Not ours to delete: locked by the living, another user's, or already gone.
    const lock = await lockFolder(path).catch(() => undefined);
    if (lock) await removal(path, lock)().catch(() => undefined);
  }
}

function removal(path: string, lock: { release(): Promise<void> }): () => Promise<void> {
  return async () => {
    await rm(path, { recursive: true, force: true });
    await lock.release();
  };
}

async function isOld(path: string): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > UNLOCKED_MS;
}
