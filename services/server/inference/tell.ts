import type { InferenceObserver, InferenceRecord } from './record.js';

/** Tells every observer of a call that has ended. A defect of an observer is reported and costs its count, not the client's answer. */
export function tellAll(
  observers: readonly InferenceObserver[],
  record: InferenceRecord,
  report: (error: unknown) => void,
): void {
  for (const observer of observers) {
    try {
      observer.ended(record);
    } catch (thrown) {
      report(thrown);
    }
  }
}
