import { mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { invalid } from './error.js';
import { systemCode, writeFailure } from './write-failure.js';

/**
 * Makes a folder and those above it that are missing. For a folder that a user names: Node's own recursive mkdir tries for ever
 * where a file system takes no folders and says that there is no such file (/proc).
 * @param name the folder, as the message names it
 * @throws HeartwoodError INVALID_ARGUMENT where there can be no such folder; else as {@link writeFailure}
 */
export async function makeFolders(path: string, name = path): Promise<void> {
  const folder = resolve(path);
  if (await isFolder(folder)) return;
  try {
    await mkdir(folder);
  } catch (error) {
    const parent = dirname(folder);
    if (systemCode(error) === 'EEXIST' && (await isFolder(folder))) return;
    if (systemCode(error) !== 'ENOENT' || parent === folder) throw writeFailure(name, error);
    if (await isFolder(parent)) throw invalid(`${name}: cannot be made: ${parent} takes no folders`, error);
    await makeFolders(parent, name);
    await mkdir(folder).catch(async (cause: unknown) => {
      if (systemCode(cause) === 'EEXIST' && (await isFolder(folder))) return;
      throw writeFailure(name, cause);
    });
  }
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
