import { writeSync } from 'node:fs';

const stderr = 2;
/** Bytes of lines that are held for a reader who does not read; those beyond are dropped. */
const mostHeld = 1024 * 1024;
/** Milliseconds until what is held is tried again. */
const retryMs = 100;

/**
 * Where a process's log goes: stderr, at once, so that the line before an exit is not lost, and without ever waiting for whoever reads
 * it. A pipe that is full takes nothing: lines are held for it, those beyond a megabyte are dropped, and a line says how many once it
 * takes lines again. A line that the file refuses otherwise (a disk that is full, a pipe without its other end) is lost: there is
 * nowhere left to say so.
 */
export class LogDestination {
  #held: Buffer[] = [];
  #bytes = 0;
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Writes a line with its end. */
  write(line: string): void {
    if (this.#held.length > 0) {
      this.#hold(Buffer.from(line));
      return;
    }
    const rest = this.#put(Buffer.from(line));
    if (rest.length > 0) this.#hold(rest);
  }

  #hold(bytes: Buffer): void {
    if (this.#bytes + bytes.length > mostHeld) {
      this.#dropped++;
      return;
    }
    this.#held.push(bytes);
    this.#bytes += bytes.length;
    this.#timer ??= setTimeout(() => this.#retry(), retryMs).unref();
  }

  #retry(): void {
    this.#timer = undefined;
    while (this.#held.length > 0) {
      const [first] = this.#held;
      const rest = this.#put(first!);
      this.#bytes -= first!.length - rest.length;
      if (rest.length > 0) {
        this.#held[0] = rest;
        this.#timer = setTimeout(() => this.#retry(), retryMs).unref();
        return;
      }
      this.#held.shift();
    }
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    const line = { level: 'warn', pid: process.pid, time: new Date(), dropped, msg: 'lines of the log were dropped' };
    this.write(`${JSON.stringify(line)}\n`);
  }

  /** Writes what the file takes, and gives back the rest. */
  #put(bytes: Buffer): Buffer {
    let written = 0;
    neverWait();
    try {
      while (written < bytes.length) written += writeSync(stderr, bytes, written);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return bytes.subarray(bytes.length);
    }
    return bytes.subarray(written);
  }

  /** Tries what is held a last time; what is still not taken is lost with the process. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#held.length > 0) this.#retry();
  }
}

/**
 * Has a write to a full pipe or socket fail, where it would wait. Node does so when it opens the stream, but a process that inherits
 * stderr undoes it for everyone, at its start and at its end.
 */
function neverWait(): void {
  const { isTTY, _handle: handle } = process.stderr as typeof process.stderr & { readonly _handle?: Handle | null };
  if (!isTTY) handle?.setBlocking?.(false);
}

/** libuv's, as Node has it below a stream of a pipe; a file has none. */
interface Handle {
  setBlocking?(blocking: boolean): void;
}
