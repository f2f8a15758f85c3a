import { SingleBar } from 'cli-progress';
import type { Context } from './context.js';

/** How far a stage is, as the pruning library tells it. */
export interface ProgressEvent {
  readonly stage: string;
  readonly done: number;
  /** 0 while it is not known. */
  readonly total: number;
  readonly unit: string;
}

export interface Progress {
  report(event: ProgressEvent): void;
  /** Leaves the line of the last stage as it is. */
  stop(): void;
}

const silent: Progress = { report: () => undefined, stop: () => undefined };

/** A bar a stage on stderr where that is a terminal; nothing at all elsewhere. */
export function createProgress(context: Context): Progress {
  if (context.stderr.isTTY !== true) return silent;
  let stage: string | undefined;
  let bar: SingleBar | undefined;
  return {
    report(event) {
      if (event.stage !== stage) {
        bar?.stop();
        stage = event.stage;
        bar = new SingleBar({
          stream: context.stderr,
          format: `${event.stage.padEnd(10)} {bar} {value}/{total} {unit}, {duration_formatted}, {eta_formatted} left`,
          barCompleteChar: '█',
          barIncompleteChar: '░',
          barsize: 30,
          hideCursor: true,
          stopOnComplete: false,
          etaBuffer: 20,
        });
        bar.start(Math.max(event.total, 1), event.done, { unit: event.unit });
      }
      if (event.total > 0) bar?.setTotal(event.total);
      bar?.update(event.done, { unit: event.unit });
    },
    stop() {
      bar?.stop();
      bar = undefined;
      stage = undefined;
    },
  };
}
