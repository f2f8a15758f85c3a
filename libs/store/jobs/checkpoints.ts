import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { HeartwoodError } from '../../errors/error.js';
import { writeFailure } from '../../errors/write-failure.js';
import type { Database, Executor } from '../database/database.js';
import { flush } from '../durable.js';
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint-format.js';

/** Keeps the results of a job's stages until the job has ended. */
export interface CheckpointStore {
  /** The result of a stage, or undefined when there is none that is whole. */
  read(job: string, stage: string): Promise<{ value: unknown } | undefined>;
  /** Keeps a result: after this returns it is there, before it is not, and never in part. @param worker who holds the job */
  write(job: string, stage: string, value: unknown, worker: string): Promise<void>;
  /** Forgets all results of a job. */
  clear(job: string): Promise<void>;
}

/** In files `<directory>/<job>/checkpoints/<stage>`, for jobs that one process runs. */
export class FileCheckpoints implements CheckpointStore {
  constructor(private readonly directory: string) {}

  async read(job: string, stage: string): Promise<{ value: unknown } | undefined> {
    try {
      return await decodeCheckpoint(createReadStream(this.#file(job, stage), { highWaterMark: 1 << 20 }));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  async write(job: string, stage: string, value: unknown): Promise<void> {
    const file = this.#file(job, stage);
    const chunks = encodeCheckpoint(value);
    const temporary = `${file}.${randomBytes(4).toString('hex')}.part`;
    try {
      await mkdir(join(file, '..'), { recursive: true });
      const handle = await open(temporary, 'wx');
      try {
        for (const chunk of chunks) await handle.writeFile(chunk);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, file);
      await flush(join(file, '..'));
    } catch (error) {
      // What was written of it would keep a full disk full.
      await rm(temporary, { force: true }).catch(() => undefined);
      throw writeFailure(file, error);
    }
  }

  clear(job: string): Promise<void> {
    return rm(join(this.directory, job, 'checkpoints'), { recursive: true, force: true });
  }

  #file(job: string, stage: string): string {
    return join(this.directory, job, 'checkpoints', `${encodeURIComponent(stage).replaceAll('.', '%2E')}.checkpoint`);
  }
}

/** Bytes of a row; a driver holds a row in memory several times over. */
const PART = 1 << 20;

/** In the database, for jobs that any of several machines may go on with. */
export class DatabaseCheckpoints implements CheckpointStore {
  constructor(private readonly database: Database) {}

  async read(job: string, stage: string): Promise<{ value: unknown } | undefined> {
    return decodeCheckpoint(this.#parts(job, stage));
  }

  async write(job: string, stage: string, value: unknown, worker: string): Promise<void> {
    await this.writeWhen(job, stage, value, async (transaction) => {
      const held = await transaction.query(
        `SELECT id FROM heartwood.jobs WHERE id = $1 AND worker = $2 AND state = 'running' FOR UPDATE`,
        [job, worker],
      );
      if (held.length === 0) throw new HeartwoodError('CANCELLED', `job ${job}: no longer held by this worker`);
    });
  }

  /**
   * Keeps a result unless `holds` throws: a worker that lost its lease must not replace what the next one may already have read. Asked last
   * in the transaction, so that the row which says so is locked, and with it the renewal of the lease, for a moment only.
   */
  async writeWhen(
    job: string,
    stage: string,
    value: unknown,
    holds: (transaction: Executor) => Promise<void>,
  ): Promise<void> {
    const chunks = encodeCheckpoint(value);
    await this.database.transaction(async (transaction) => {
      await transaction.query('DELETE FROM heartwood.checkpoints WHERE job = $1 AND stage = $2', [job, stage]);
      let part = 0;
      for (const bytes of regroup(chunks, PART))
        await transaction.query(
          'INSERT INTO heartwood.checkpoints (job, stage, part, content) VALUES ($1, $2, $3, $4)',
          [job, stage, part++, bytes],
        );
      await holds(transaction);
    });
  }

  async clear(job: string): Promise<void> {
    await this.database.query('DELETE FROM heartwood.checkpoints WHERE job = $1', [job]);
  }

  async *#parts(job: string, stage: string): AsyncGenerator<Uint8Array> {
    for (let part = 0; ; part++) {
      const [row] = await this.database.query<{ content: Uint8Array }>(
        'SELECT content FROM heartwood.checkpoints WHERE job = $1 AND stage = $2 AND part = $3',
        [job, stage, part],
      );
      if (!row) return;
      yield row.content;
    }
  }
}

/** The same bytes in pieces of `size`. */
function* regroup(chunks: Uint8Array[], size: number): Generator<Buffer> {
  let piece = Buffer.alloc(size);
  let filled = 0;
  for (const chunk of chunks)
    for (let offset = 0; offset < chunk.length;) {
      const part = chunk.subarray(offset, offset + size - filled);
      piece.set(part, filled);
      offset += part.length;
      filled += part.length;
      if (filled < size) continue;
      yield piece;
      piece = Buffer.alloc(size);
      filled = 0;
    }
  if (filled > 0) yield piece.subarray(0, filled);
}
