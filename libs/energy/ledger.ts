/**
 * Who took how much: the meter's joules, shared out to the requests.
 *
 * Of an interval between two readings, e joules in Δt, idling is min(e, P_idle Δt). What is above is shared among the runs in
 * proportion to their compute time in the interval, and a run's share among its requests by samples. What no request gets (idling,
 * work without a run in it, runs that nobody answers for) is unattributed, so that at every moment
 *
 *     metered = Σ requests + unattributed + held
 *
 * where `held` is what waits for a run that has begun and not ended.
 */
import { IdlePower } from './idle-power.js';

/** A run of a model; requests that share it share the object. Times on the meter's clock, milliseconds. */
export interface Run {
  readonly startedAt: number;
  readonly endedAt: number;
  readonly samples: number;
}

/** A request whose run has begun. */
export interface Ticket {
  /** The run has ended; `samples` of it were this request's. Its joules come with the meter's next reading; undefined: not metered. */
  settle(run: Run, samples: number): Promise<number | undefined>;
  /** There is nobody left to charge (since now, or `at`). After `settle` it does nothing. */
  drop(at?: number): void;
}

/** The meter's energy from one time to another. */
export interface MeteredInterval {
  readonly from: number;
  readonly to: number;
  readonly joules: number;
}

interface Claim {
  readonly samples: number;
  readonly resolve: (joules: number | undefined) => void;
}

interface Account {
  readonly run: Run;
  readonly claims: Claim[];
  joules: number;
  /** Milliseconds of it of which the energy is known. */
  metered: number;
}

/** Intervals that may wait for a run to end; two become one where there are more, so a very long run costs resolution, not memory. */
const mostHeld = 4096;

/** Runs that may wait for a reading; the oldest give up where there are more (a meter that fell silent). */
const mostAccounts = 4096;

/** A run of which more than this share was not metered has no joules: they would be a guess. */
const unmeteredShare = 0.01;
/** Milliseconds by which the clocks of a run's ends may be off. */
const clockSlack = 0.1;

export class EnergyLedger {
  readonly #idle = new IdlePower();
  readonly #tickets = new Set<{ readonly since: number }>();
  readonly #occupations = new Set<object>();
  readonly #accounts = new Map<Run, Account>();
  #held: MeteredInterval[] = [];
  #metered = 0;
  #attributed = 0;
  #unattributed = 0;
  /** Up to here the meter has told. */
  #told = -Infinity;
  #closed = false;

  /** Joules that the meter counted. */
  get metered(): number {
    return this.#metered;
  }

  /** Joules of requests. */
  get attributed(): number {
    return this.#attributed;
  }

  /** Joules of no request. */
  get unattributed(): number {
    return this.#unattributed;
  }

  /** Watts; undefined until it was learnt. */
  get idleWatts(): number | undefined {
    return this.#idle.watts;
  }

  /** A run begins now, or began at `since`: what the meter says from then on waits until the ticket is settled or dropped. */
  begin(since = performance.now()): Ticket {
    const ticket = { since };
    if (!this.#closed) this.#tickets.add(ticket);
    return {
      settle: (run, samples) =>
        new Promise((resolve) => {
          const open = this.#tickets.delete(ticket);
          if (!open || samples <= 0) return resolve(undefined);
          this.#account(run).claims.push({ samples, resolve });
        }),
      drop: (at = performance.now()) => {
        if (!this.#tickets.delete(ticket)) return;
        // Something was computed, though nobody is charged: no time to learn from.
        this.#idle.busy(at);
      },
    };
  }

  /**
   * Something that is no run goes on (a model is loaded), until the function that it returns is called: what the machine takes meanwhile
   * is nobody's, and says nothing of idling. It may be shorter than the time between two readings.
   */
  occupied(): (at?: number) => void {
    const occupation = {};
    this.#occupations.add(occupation);
    return (at = performance.now()) => {
      if (this.#occupations.delete(occupation)) this.#idle.busy(at);
    };
  }

  /** The meter's next interval: in order, without overlaps. */
  read(interval: MeteredInterval): void {
    if (this.#closed) return;
    this.#metered += interval.joules;
    this.#held.push(interval);
    this.#advance(interval.to);
  }

  /** The meter is read up to this time, whether or not there was an energy to tell. */
  advance(time: number): void {
    if (!this.#closed) this.#advance(time);
  }

  /** No reading will come any more: what waits is undefined, and what was held is nobody's. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#tickets.clear();
    for (const { joules } of this.#held.splice(0)) this.#unattributed += joules;
    for (const account of this.#accounts.values()) this.#giveUp(account);
    this.#accounts.clear();
  }

  #account(run: Run): Account {
    let account = this.#accounts.get(run);
    if (account === undefined) {
      account = { run, claims: [], joules: 0, metered: 0 };
      this.#accounts.set(run, account);
      if (this.#accounts.size > mostAccounts) {
        const [oldest] = this.#accounts.values();
        this.#accounts.delete(oldest!.run);
        this.#giveUp(oldest!);
      }
    }
    return account;
  }

  #advance(time: number): void {
    this.#told = Math.max(this.#told, time);
    let horizon = this.#told;
    for (const { since } of this.#tickets) horizon = Math.min(horizon, since);
    const ready = this.#held.findIndex(({ to }) => to > horizon);
    for (const interval of this.#held.splice(0, ready < 0 ? this.#held.length : ready)) this.#share(interval);
    const shared = this.#held[0]?.from ?? horizon;
    for (const account of this.#accounts.values()) {
      if (account.run.endedAt > shared) continue;
      this.#accounts.delete(account.run);
      this.#close(account);
    }
    if (this.#held.length > mostHeld) this.#held = joinPairs(this.#held);
  }

  #share({ from, to, joules }: MeteredInterval): void {
    const overlaps: { account: Account; ms: number }[] = [];
    let compute = 0;
    for (const account of this.#accounts.values()) {
      const ms = Math.min(to, account.run.endedAt) - Math.max(from, account.run.startedAt);
      if (ms <= 0) continue;
      overlaps.push({ account, ms });
      compute += ms;
      this.#idle.busy(account.run.endedAt);
    }
    if (this.#occupations.size > 0) this.#idle.busy(to);
    const idle = this.#idle.watts;
    if (compute === 0) this.#idle.quiet(from, to, joules);
    if (compute === 0 || idle === undefined) {
      this.#unattributed += joules;
      return;
    }
    const above = Math.max(0, joules - (idle * (to - from)) / 1000);
    this.#unattributed += joules - above;
    for (const { account, ms } of overlaps) {
      account.joules += (above * ms) / compute;
      account.metered += ms;
    }
  }

  /** All of the run's time is past: its requests learn what they took. */
  #close(account: Account): void {
    const { run, claims, joules, metered } = account;
    const ms = run.endedAt - run.startedAt;
    if (metered <= 0 || ms - metered > ms * unmeteredShare + clockSlack) return this.#giveUp(account);
    const claimed = claims.reduce((sum, { samples }) => sum + samples, 0);
    const whole = Math.max(run.samples, claimed);
    for (const { samples, resolve } of claims) {
      const share = (joules * samples) / whole;
      this.#attributed += share;
      resolve(share);
    }
    this.#unattributed += (joules * (whole - claimed)) / whole;
  }

  #giveUp({ claims, joules }: Account): void {
    this.#unattributed += joules;
    for (const { resolve } of claims) resolve(undefined);
  }
}

/** Two neighbours become one, where nothing is between them. */
function joinPairs(intervals: readonly MeteredInterval[]): MeteredInterval[] {
  const joined: MeteredInterval[] = [];
  for (let i = 0; i < intervals.length; i += 2) {
    const [first, second] = [intervals[i]!, intervals[i + 1]];
    if (second === undefined) joined.push(first);
    else if (first.to < second.from) joined.push(first, second);
    else joined.push({ from: first.from, to: second.to, joules: first.joules + second.joules });
  }
  return joined;
}
