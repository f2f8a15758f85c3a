import PgBoss from 'pg-boss';
import { asBossDatabase, type Database, type Executor } from '../database/database.js';

const QUEUE = 'heartwood-prune';
/** Shards of jobs, for whoever has hands. */
const SHARDS = 'heartwood-shard';
/**
 * Seconds after which a message that a worker fetched and did not acknowledge is delivered again. A worker acknowledges as soon as
 * it holds the job's own lease, so this covers only a death between the two.
 */
const DELIVERY_SECONDS = 10;

/**
 * Tells workers which jobs to look at, by pg-boss. Messages are hints: the truth is the job's row, so one message too many is
 * harmless, and one that was lost is sent again when a worker starts.
 */
export class JobQueue {
  private constructor(private readonly boss: PgBoss) {}

  /** @param onError told of failures of pg-boss's own maintenance */
  static async start(database: Database, onError: (error: Error) => void): Promise<JobQueue> {
    const boss = new PgBoss({
      db: asBossDatabase(database),
      schema: 'heartwood_queue',
      schedule: false,
      maintenanceIntervalSeconds: DELIVERY_SECONDS,
    });
    boss.on('error', onError);
    await boss.start();
    await boss.createQueue(QUEUE);
    await boss.createQueue(SHARDS);
    return new JobQueue(boss);
  }

  /** Announces a job; within a transaction when one is given. */
  async send(job: string, executor?: Executor): Promise<void> {
    await this.boss.send(
      QUEUE,
      { job },
      {
        retryLimit: 1000,
        expireInSeconds: DELIVERY_SECONDS,
        retentionDays: 3650,
        ...(executor ? { db: asBossDatabase(executor) } : {}),
      },
    );
  }

  /** Announces shards, each by a message with this id, within a transaction. */
  async sendShards(messages: readonly string[], executor: Executor): Promise<void> {
    if (messages.length === 0) return;
    const settings = { retryLimit: 1000, expireInSeconds: DELIVERY_SECONDS };
    await this.boss.insert(
      messages.map((id) => ({ id, name: SHARDS, ...settings })),
      { db: asBossDatabase(executor) },
    );
  }

  /** Takes messages of shards back that nobody needs any more, within a transaction. */
  async removeShards(messages: readonly string[], executor: Executor): Promise<void> {
    if (messages.length > 0) await this.boss.deleteJob(SHARDS, [...messages], { db: asBossDatabase(executor) });
  }

  /**
   * The next message of a shard that waits; no other worker sees it for a while. It goes with the shard, when that is taken; until then it
   * comes again.
   */
  async fetchShard(): Promise<string | undefined> {
    const [message] = await this.boss.fetch(SHARDS);
    return message?.id;
  }

  /** The next message, to be acknowledged, or undefined. No other worker sees it meanwhile. */
  async fetch(): Promise<{ job: string; acknowledge(): Promise<void> } | undefined> {
    const [message] = await this.boss.fetch<{ job: string }>(QUEUE);
    if (!message) return undefined;
    return { job: message.data.job, acknowledge: () => this.boss.complete(QUEUE, message.id) };
  }

  stop(): Promise<void> {
    return this.boss.stop({ graceful: false, close: false });
  }
}
