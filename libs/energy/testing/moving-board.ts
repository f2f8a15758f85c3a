import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { monotonicMs } from '../meters/source.js';
import type { Board } from './boards.js';

/** A board whose values another process moves. Times are on the clock of performance.now(). */
export interface MovingBoard {
  /** The curves' time 0. */
  readonly begin: number;
  /** The first power rail takes so much more from now on. */
  extra(watts: number): void;
  /** When the values were moved, from the last time not after `from` to the first after `to`. */
  moves(from: number, to: number): Promise<number[]>;
}

/** Has another process move a board's values until the test ends; resolves when it does. */
export async function moving(board: Board, context: TestContext): Promise<MovingBoard> {
  const offset = monotonicMs() - performance.now();
  const begin = performance.now();
  const entry = fileURLToPath(new URL('./mover.js', import.meta.url));
  const argument = JSON.stringify({ board, begin: begin + offset });
  const child = spawn(process.execPath, [entry, argument], { stdio: ['pipe', 'pipe', 'inherit'] });
  context.after(async () => {
    child.kill();
    await once(child, 'exit');
    rmSync(board.root, { recursive: true, force: true });
  });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await answers.next();
  const ask = (question: object) => void child.stdin.write(`${JSON.stringify(question)}\n`);
  return {
    begin,
    extra: (watts) => ask({ extra: watts }),
    moves: async (from, to) => {
      ask({ moves: [from + offset, to + offset] });
      const answer: IteratorResult<string, unknown> = await answers.next();
      return (JSON.parse(String(answer.value)) as number[]).map((time) => time - offset);
    },
  };
}
