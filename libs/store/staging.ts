import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

// A staging folder is named after the process that fills it, so that another process can tell what was left behind by a kill -9
// from what is still being written.
const PREFIX = '.staging-';
const REMOVED = '.removed-';
const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;
/** The temporary name of `writeDurably`. */
const TEMPORARY = /^\..+\.\d+-[0-9a-f]{8}$/;

/** The staging folders that this process is filling now (its own process id may have been another process's before). */
const mine = new Set<string>();

function host(): string {
  return hostname().replace(/[^A-Za-z0-9_]/g, '_') || 'host';
}

/** Makes a hidden folder inside `parent`, on the same file system, to be renamed to its place when it is complete. */
export async function createStaging(parent: string): Promise<string> {
  const directory = join(parent, `${PREFIX}${host()}-${process.pid}-${randomBytes(6).toString('hex')}`);
  mine.add(directory);
  await mkdir(directory);
  return directory;
}

/** Ends the care for a staging folder, whether it was renamed or not: what is left of it is deleted. */
export async function releaseStaging(directory: string): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  mine.delete(directory);
}

/** A hidden name inside `parent` to rename something to that is about to be deleted, so that it vanishes at once and whole. */
export function removalPath(parent: string): string {
  return join(parent, `${REMOVED}${randomBytes(6).toString('hex')}`);
}

/** Deletes what killed processes left in `parent`: staging folders without a living owner, and halfway-deleted versions. */
export async function cleanStaging(parent: string): Promise<string[]> {
  const cleaned: string[] = [];
  for (const name of await readdir(parent).catch(() => [])) {
    const path = join(parent, name);
    const stale =
      name.startsWith(REMOVED) ||
      (name.startsWith(PREFIX) && (await isStale(path, name))) ||
      (TEMPORARY.test(name) && (await isOlder(path, HOUR)));
    if (stale) {
      await rm(path, { recursive: true, force: true });
      cleaned.push(path);
    }
  }
  return cleaned;
}

async function isStale(path: string, name: string): Promise<boolean> {
  if (mine.has(path)) return false;
  const [, owner, pid] = /^\.staging-(.*)-(\d+)-[0-9a-f]+$/.exec(name) ?? [];
  // On this host the process table knows; of other hosts that share the folder only time can tell.
  if (owner === host() && !isAlive(Number(pid))) return true;
  return isOlder(path, DAY);
}

async function isOlder(path: string, age: number): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > age;
}

function isAlive(pid: number): boolean {
  // A folder with our own id that we are not filling was left by an earlier process of that id (in a container it is always 1).
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
