import { HeartwoodError, type ErrorCode } from '../../../libs/errors/error.js';
import { connectPruning, JobState, StageState, type Job, type PruneWish, type Report } from '../../pruner/client.js';
import type { Progress } from '../progress.js';

/**
 * Has a pruner do a job, showing its stages as they go. Throws what the job failed with; an abort cancels the job.
 */
export async function runJob(
  address: string,
  wish: PruneWish,
  progress: Progress,
  signal: AbortSignal,
): Promise<Report> {
  const client = connectPruning(address);
  try {
    await client.waitUntilReady(30_000);
    const { id } = await client.create(wish);
    let last: Job | undefined;
    try {
      for await (const job of client.watch(id, { signal })) {
        last = job;
        const stage = job.stages.find(({ state }) => state === StageState.STAGE_STATE_RUNNING);
        if (stage !== undefined) {
          progress.report({ stage: stage.name, done: stage.done, total: stage.total, unit: stage.unit });
        }
      }
    } catch (error) {
      if (signal.aborted) await client.cancel(id).catch(() => undefined);
      throw error;
    } finally {
      progress.stop();
    }
    if (last?.state !== JobState.JOB_STATE_SUCCEEDED) {
      const code = (last?.error?.code ?? 'INTERNAL') as ErrorCode;
      throw new HeartwoodError(code, `the pruning job: ${last?.error?.message ?? 'was cancelled'}`);
    }
    return await client.report(id);
  } finally {
    client.close();
  }
}
