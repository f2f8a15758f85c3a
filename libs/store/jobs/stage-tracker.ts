import type { StageStatus } from './job.js';

/** Progress as the work reports it. */
export interface ProgressEvent {
  stage: string;
  done: number;
  total: number;
  unit: string;
}

/** The rate is that of the last seconds, so that it follows a machine that gets slower or a stage whose parts differ. */
const WINDOW_MS = 20_000;

/** A stage that nothing is known of yet. */
export function pendingStage(name: string): StageStatus {
  return {
    name,
    state: 'pending',
    done: 0,
    total: 0,
    unit: '',
    rate: null,
    secondsLeft: null,
    seconds: 0,
    resumed: false,
  };
}

/** Keeps how far each stage of a running job is, with its rate and the time left. */
export class StageTracker {
  readonly #stages: StageStatus[];
  /** Of each running stage: when it began, the seconds it had before, and what was done when, lately. */
  readonly #runs = new Map<string, { began: number; before: number; samples: { at: number; done: number }[] }>();

  /** @param stages as the job's row has them; a stage that was running when its worker died begins anew */
  constructor(
    stages: readonly StageStatus[],
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#stages = stages.map((stage) =>
      stage.state === 'done' ? { ...stage } : { ...pendingStage(stage.name), unit: stage.unit, seconds: stage.seconds },
    );
  }

  begin(name: string): void {
    const stage = this.#stage(name);
    const at = this.now();
    this.#runs.set(name, { began: at, before: stage.seconds, samples: [{ at, done: 0 }] });
    Object.assign(stage, {
      state: 'running',
      done: 0,
      rate: null,
      secondsLeft: null,
      resumed: false,
    } satisfies Partial<StageStatus>);
  }

  progress({ stage: name, done, total, unit }: ProgressEvent): void {
    if (!this.#runs.has(name)) this.begin(name);
    const run = this.#runs.get(name)!;
    const at = this.now();
    run.samples.push({ at, done });
    while (run.samples.length > 2 && run.samples[1]!.at < at - WINDOW_MS) run.samples.shift();
    const oldest = run.samples[0]!;
    const rate = at > oldest.at && done > oldest.done ? ((done - oldest.done) / (at - oldest.at)) * 1000 : null;
    const secondsLeft = rate !== null && total > 0 ? Math.max(0, total - done) / rate : null;
    Object.assign(this.#stage(name), { done, total, unit, rate, secondsLeft });
  }

  complete(name: string, resumed: boolean): void {
    const stage = this.#stage(name);
    this.#clock(stage);
    this.#runs.delete(name);
    const done = stage.total > 0 ? stage.total : stage.done;
    Object.assign(stage, { state: 'done', done, secondsLeft: null, resumed } satisfies Partial<StageStatus>);
  }

  /** The stages now, to be kept. */
  snapshot(): StageStatus[] {
    for (const stage of this.#stages) this.#clock(stage);
    return this.#stages.map((stage) => ({ ...stage }));
  }

  #clock(stage: StageStatus): void {
    const run = this.#runs.get(stage.name);
    if (run) stage.seconds = run.before + (this.now() - run.began) / 1000;
  }

  #stage(name: string): StageStatus {
    let stage = this.#stages.find((candidate) => candidate.name === name);
    if (!stage) this.#stages.push((stage = pendingStage(name)));
    return stage;
  }
}
