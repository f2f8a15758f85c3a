import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { HeartwoodError } from '../../libs/errors/error.js';
import type { JobRequest } from './prune-request.js';

/** Folders below which a request may name paths; anywhere where there are none. */
export interface AllowedRoots {
  readonly modelRoots?: readonly string[] | undefined;
  readonly dataRoots?: readonly string[] | undefined;
}

/**
 * Refuses a request that would have the pruner read outside of its roots: by its paths, or by a symbolic link on the way to them or below
 * them. Asked when a request comes, and again when a job is taken up, since links can change in between.
 * @throws HeartwoodError PERMISSION_DENIED naming the field, the path and the roots, whether there is something at the path or not
 */
export async function checkAllowed(
  request: Pick<JobRequest, 'modelDirectory' | 'data'>,
  roots: AllowedRoots,
): Promise<void> {
  await checkBelow('model_directory', request.modelDirectory, roots.modelRoots);
  // Bundled data is part of the program.
  if (!request.data.startsWith('demo:')) await checkBelow('data', request.data, roots.dataRoots);
}

async function checkBelow(field: string, path: string, roots: readonly string[] | undefined): Promise<void> {
  if (roots === undefined) return;
  const real = await Promise.all(roots.map(realPath));
  const allowed = (target: string) => real.some((root) => target === root || target.startsWith(withSlash(root)));
  const refused = (what: string) =>
    new HeartwoodError('PERMISSION_DENIED', `${field}: expected a path below ${roots.join(' or ')}, got ${what}`);
  const target = await realPath(path);
  if (!allowed(target)) throw refused(JSON.stringify(path.slice(0, 200)));
  const folder = await stat(target).then(
    (found) => found.isDirectory(),
    () => false,
  );
  // Of a file, or of a split of data, which is no file, what lies beside it is read too.
  const link = folder
    ? await linkOutside(target, Infinity, allowed, new Set())
    : allowed(dirname(target))
      ? await linkOutside(dirname(target), 1, allowed, new Set())
      : undefined;
  if (link !== undefined)
    throw refused(`the symbolic link ${JSON.stringify(link.slice(0, 200))}, which leads out of it`);
}

/** The path without symbolic links. Of one that is not there the part that is: what is made there later is looked at again. */
async function realPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(await realPath(parent), basename(path));
  }
}

/** A link in `folder` (real, and allowed) or in `depth - 1` levels below it to a place that is not allowed, if there is one. */
async function linkOutside(
  folder: string,
  depth: number,
  allowed: (target: string) => boolean,
  seen: Set<string>,
): Promise<string | undefined> {
  if (depth < 1 || seen.has(folder)) return undefined;
  seen.add(folder);
  // A file, or nothing: no links below it.
  const entries: Dirent[] = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (!entry.isDirectory() && !entry.isSymbolicLink()) continue;
    const target = entry.isSymbolicLink() ? await realPath(path) : path;
    if (!allowed(target)) return path;
    const found = await linkOutside(target, depth - 1, allowed, seen);
    if (found !== undefined) return found;
  }
  return undefined;
}

const withSlash = (folder: string): string => (folder.endsWith(sep) ? folder : folder + sep);
