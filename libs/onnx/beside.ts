import { createHash, randomBytes } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { copyFile, link, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { invalid, messageOf } from '../errors/error.js';

/**
 * Puts a file that a model refers to beside the model and returns the name it has there. The runtime refuses absolute paths,
 * `..` and symbolic links in an external reference, so the file is hard-linked (nothing is copied on disk); where the file
 * system refuses a link, it is copied. A file of that name that is there already is used when it is the same file or has the same
 * content; otherwise the new one gets a digest in its name.
 */
export async function putBeside(file: string, directory: string, how: 'hard' | 'copy' = 'hard'): Promise<string> {
  let source: string;
  try {
    // Caches of downloaded models hold symbolic links, and a hard link to one would be a symbolic link again.
    source = await realpath(file);
  } catch (cause) {
    throw invalid(`${file}: cannot be read: ${messageOf(cause)}`, cause);
  }
  const name = basename(file);
  if (await placed(source, join(directory, name), how)) return name;
  const digest = (await digestOf(source)).slice(0, 12);
  const suffixed = `${basename(name, extname(name))}-${digest}${extname(name)}`;
  if (await placed(source, join(directory, suffixed), how)) return suffixed;
  throw invalid(`${join(directory, suffixed)}: another file of this name is in the way of ${file}`);
}

/** Links or copies; true when the target is now the source's content, false when something else has that name. */
async function placed(source: string, target: string, how: 'hard' | 'copy'): Promise<boolean> {
  try {
    if (how === 'hard') {
      try {
        await link(source, target);
        return true;
      } catch (error) {
        if (!linkRefused.has(codeOf(error))) throw error;
      }
    }
    await copyAtomically(source, target);
    return true;
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
    return sameContent(source, target);
  }
}

const linkRefused = new Set(['EXDEV', 'EPERM', 'EACCES', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

async function copyAtomically(source: string, target: string): Promise<void> {
  if (await exists(target)) throw Object.assign(new Error(`${target} exists`), { code: 'EEXIST' });
  const partial = temporaryBeside(target);
  try {
    await copyFile(source, partial, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    await rename(partial, target);
  } finally {
    await rm(partial, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function sameContent(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([stat(a), stat(b)]);
  if (one.dev === other.dev && one.ino === other.ino) return true;
  if (!other.isFile() || one.size !== other.size) return false;
  return (await digestOf(a)) === (await digestOf(b));
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

/** A name in the same folder that no other process uses: a file is written under it, then renamed, so that none is half-written. */
export function temporaryBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}`);
}
