import type { EnergyLedger, Ticket } from '../../../libs/energy/ledger.js';
import type { InferenceJob, InferenceResult, Place, Scheduler } from '../scheduling/scheduler.js';

/**
 * A scheduler whose results say the joules of each job: of whoever asks for a run, so that no run passes for idling.
 * @param spent told of a job's joules once they are known
 */
export function accounted(scheduler: Scheduler, ledger: EnergyLedger, spent: (joules: number) => void): Scheduler {
  const account = async (
    job: InferenceJob,
    submit: (job: InferenceJob) => Promise<InferenceResult>,
  ): Promise<InferenceResult> => {
    let ticket: Ticket | undefined;
    const started = (): void => {
      // What a run took that was lost with its worker is nobody's.
      ticket?.drop();
      ticket = ledger.begin();
      job.started?.();
    };
    try {
      const result = await submit({ ...job, started });
      const joules = ticket?.settle(result.execution, job.batch);
      if (joules === undefined) return result;
      void joules.then((each) => each !== undefined && spent(each));
      return { ...result, joules };
    } finally {
      ticket?.drop();
    }
  };
  const placeOf = (place: Place): Place => ({
    submit: (job) => account(job, (each) => place.submit(each)),
    leave: () => place.leave(),
  });
  return {
    admit: () => placeOf(scheduler.admit()),
    submit: (job) => account(job, (each) => scheduler.submit(each)),
    get pending() {
      return scheduler.pending;
    },
    get waiting() {
      return scheduler.waiting;
    },
    get oldestWaitingMs() {
      return scheduler.oldestWaitingMs;
    },
  };
}
