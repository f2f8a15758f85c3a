import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { invalid, messageOf } from '../../libs/errors/error.js';

export interface NamedFile {
  readonly path: string;
  /** What it should hold, as a message says it: "a certificate chain in PEM". */
  readonly expected: string;
}

export interface WatchedParts<T> {
  readonly files: readonly NamedFile[];
  /** What the files come to, their contents in the same order. Throws when they come to nothing. */
  make(contents: readonly Buffer[]): T;
  readonly pollMs: number;
  changed(value: T): void;
  /** Told once of every content that is no good; what was there before stays. */
  broken(error: unknown): void;
}

/**
 * A value made of files, made anew when their contents change. They are read again and compared, since an event of the file system
 * is not to be had where a mounted secret is swapped by a symbolic link.
 */
export class WatchedFiles<T> {
  #value: T;
  #key: string;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** @throws HeartwoodError INVALID_ARGUMENT naming the file and what was expected of it */
  static async open<T>(parts: WatchedParts<T>): Promise<WatchedFiles<T>> {
    const contents = await read(parts.files);
    return new WatchedFiles(parts, parts.make(contents), keyOf(contents));
  }

  private constructor(
    private readonly parts: WatchedParts<T>,
    value: T,
    key: string,
  ) {
    this.#value = value;
    this.#key = key;
    this.#wait();
  }

  get value(): T {
    return this.#value;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #wait(): void {
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#look().finally(() => this.#wait()), this.parts.pollMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    let key = '';
    try {
      const contents = await read(this.parts.files);
      key = keyOf(contents);
      if (key === this.#key || this.#closed) return;
      this.#value = this.parts.make(contents);
      this.parts.changed(this.#value);
    } catch (thrown) {
      key ||= messageOf(thrown);
      if (key !== this.#key) this.parts.broken(thrown);
    }
    this.#key = key;
  }
}

function read(files: readonly NamedFile[]): Promise<Buffer[]> {
  return Promise.all(
    files.map(async ({ path, expected }) => {
      try {
        return await readFile(path);
      } catch (cause) {
        throw invalid(`${path}: expected ${expected}, but it cannot be read: ${messageOf(cause)}`, cause);
      }
    }),
  );
}

function keyOf(contents: readonly Buffer[]): string {
  return contents.map((bytes) => createHash('sha256').update(bytes).digest('hex')).join(' ');
}
