import { randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { HeartwoodError } from '../errors/error.js';
import { writeFailure } from '../errors/write-failure.js';

/** Who holds a lock. The start time tells a process from a later one that was given the same id. */
interface Holder {
  host: string;
  pid: number;
  started: string;
}

const LOCK_FILE = 'lock.json';
/** A holder says this often that it lives, for other hosts, which cannot see its process. */
const SIGN_OF_LIFE_MS = 10_000;
const SILENT_MS = 6 * SIGN_OF_LIFE_MS;

/**
 * Takes a folder for this process alone. A lock whose process is gone (or was another of the same id) is taken over at once; one of
 * another host when it has given no sign of life for a minute.
 * @throws HeartwoodError FAILED_PRECONDITION naming the process that holds it; as {@link writeFailure}
 */
export async function lockFolder(directory: string): Promise<{ release(): Promise<void> }> {
  const path = join(directory, LOCK_FILE);
  const mine = join(directory, `.${LOCK_FILE}.${process.pid}-${randomBytes(4).toString('hex')}`);
  const holder: Holder = { host: hostname(), pid: process.pid, started: await startTime(process.pid) };
  await writeFile(mine, JSON.stringify(holder)).catch((cause: unknown) => {
    throw writeFailure(directory, cause);
  });
  try {
    for (;;) {
      // A hard link appears with its whole content or, when the name is taken, not at all.
      const taken = await link(mine, path).then(
        () => false,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'EEXIST') return true;
          throw error;
        },
      );
      if (!taken) break;
      await removeStale(path, mine);
    }
  } finally {
    await rm(mine, { force: true });
  }
  const sign = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => undefined);
  }, SIGN_OF_LIFE_MS);
  sign.unref();
  return {
    release() {
      clearInterval(sign);
      return rm(path, { force: true });
    },
  };
}

/** Whether a folder has a lock, of a living process or of one that is gone. */
export async function isLocked(directory: string): Promise<boolean> {
  return (await stat(join(directory, LOCK_FILE)).catch(() => undefined)) !== undefined;
}

/** Removes the lock if its process is gone, else throws. */
async function removeStale(path: string, mine: string): Promise<void> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return;
  const holder = JSON.parse(text) as Holder;
  const alive =
    holder.host === hostname()
      ? (await startTime(holder.pid)) === holder.started
      : Date.now() -
          (await stat(path).then(
            (info) => info.mtimeMs,
            () => 0,
          )) <
        SILENT_MS;
  if (alive)
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `${path}: the folder is in use by process ${holder.pid} on ${holder.host}; stop it, or choose another data folder`,
    );
  // Of two that find the same stale lock only one may remove it: what was moved aside is checked to be what was read.
  const aside = `${mine}.stale`;
  await rename(path, aside).catch(() => undefined);
  const moved = await readFile(aside, 'utf8').catch(() => undefined);
  if (moved !== undefined && moved !== text) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

/** When a process started, in ticks since boot, with the boot's id; '' when there is no such process. */
async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '');
    // The second field, the command's name, may hold spaces and brackets; the start time is the 20th after it.
    return `${boot.trim()}/${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]}`;
  } catch {
    // Without /proc only the process table can be asked.
    if (process.platform === 'linux') return '';
    try {
      process.kill(pid, 0);
      return 'alive';
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EPERM' ? 'alive' : '';
    }
  }
}
