import type { CallContext } from 'nice-grpc';
import { HeartwoodError, invalid } from '../../libs/errors/error.js';
import type { Jobs } from '../../libs/store/jobs/jobs.js';
import type { PruningServiceImplementation } from '../../proto/gen/heartwood/pruning/v1/pruning.js';
import { toRecordStates, toWireJob } from './job-messages.js';
import type { AllowedRoots } from './allowed-paths.js';
import { checkRequest } from './prune-request.js';
import { STAGES } from './prune-work.js';
import { reportOf } from './report.js';

const PAGE = 100;
const LARGEST_PAGE = 1000;

/** The handlers of `heartwood.pruning.v1.PruningService`. @param stopping aborted when the service stops, which ends its streams */
export function pruningService(
  jobs: Jobs,
  stopping: AbortSignal,
  roots: AllowedRoots = {},
): PruningServiceImplementation {
  return {
    async createJob({ requestId, request }) {
      if (requestId.length > 128) throw invalid(`request_id: expected at most 128 characters, got ${requestId.length}`);
      return toWireJob(await jobs.create(await checkRequest(request, roots), STAGES, requestId));
    },

    async getJob({ id }) {
      return toWireJob(await jobs.get(id));
    },

    async listJobs({ states, pageSize, pageToken }) {
      if (pageSize > LARGEST_PAGE) throw invalid(`page_size: expected at most ${LARGEST_PAGE}, got ${pageSize}`);
      if (!/^[0-9]{0,18}$/.test(pageToken))
        throw invalid('page_token: expected the next_page_token of an earlier answer');
      const limit = pageSize || PAGE;
      const page = await jobs.list({
        states: toRecordStates(states),
        limit,
        ...(pageToken ? { before: pageToken } : {}),
      });
      return { jobs: page.map(toWireJob), nextPageToken: page.length < limit ? '' : page.at(-1)!.sequence };
    },

    async cancelJob({ id }) {
      return toWireJob(await jobs.cancel(id));
    },

    async *watchJob({ id }, context: CallContext) {
      try {
        for await (const job of jobs.watch(id, AbortSignal.any([context.signal, stopping]))) yield toWireJob(job);
      } catch (error) {
        if (!stopping.aborted) throw error;
        throw new HeartwoodError('UNAVAILABLE', 'the pruner is stopping; watch the job again when it is back');
      }
    },

    async getReport({ id }) {
      return reportOf(await jobs.get(id));
    },
  };
}
