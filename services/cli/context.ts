import type { Readable, Writable } from 'node:stream';

/** What a command has of the world; tests hand in their own. */
export interface Context {
  /** For what is given as `-`. Default: the process's own. */
  readonly stdin?: Readable;
  /** For results. */
  readonly stdout: Writable & { readonly isTTY?: boolean };
  /** For progress and complaints. */
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Aborted by Ctrl-C and SIGTERM: a command stops what it does, cleans up and rejects. */
  readonly signal: AbortSignal;
}
