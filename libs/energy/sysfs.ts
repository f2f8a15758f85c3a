/** Reading the kernel's small files below a root, which is `/` but for containers that mount them elsewhere, and tests. */
import { readdirSync, readFileSync } from 'node:fs';

/** A file's text without the white space around it. Throws what the file system does. */
export const readText = (file: string): string => readFileSync(file, 'utf8').trim();

/** The integer that is all of a file. Throws what the file system does, or that it is none. */
export function readInteger(file: string): number {
  const text = readText(file);
  if (!/^-?\d+$/.test(text)) throw new Error(`${file}: expected an integer, got ${JSON.stringify(text.slice(0, 40))}`);
  return Number(text);
}

/** What `read` gives, undefined where it throws: for files that may well not be there. */
export function optional<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** The names in a folder, sorted as people count; none where it cannot be read. */
export function namesIn(folder: string): string[] {
  const names = optional(() => readdirSync(folder)) ?? [];
  return names.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}

/** One line that says why a file could not be read. */
export function reasonOf(thrown: unknown): string {
  const { code, message } = thrown as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM') return 'no right to read it (root has)';
  return (code ?? message).replace(/\s+/g, ' ');
}
