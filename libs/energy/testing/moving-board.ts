import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { monotonicMs } from '../meters/source.js';
import type { Board } from './boards.js';

/**
 * Has another process move a board's values until the test ends; resolves when it does. `begin` is the curves' time 0, on the clock of
 * performance.now(); `extra` has the first power rail take that much more from then on.
 */
export async function moving(
  board: Board,
  context: TestContext,
): Promise<{ readonly begin: number; extra(watts: number): void }> {
  const begin = monotonicMs();
  const entry = fileURLToPath(new URL('./mover.js', import.meta.url));
  const child = spawn(process.execPath, [entry, JSON.stringify({ board, begin })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  context.after(async () => {
    child.kill();
    await once(child, 'exit');
    rmSync(board.root, { recursive: true, force: true });
  });
  await once(child.stdout, 'data');
  return {
    begin: begin - (monotonicMs() - performance.now()),
    extra: (watts) => void child.stdin.write(`${watts}\n`),
  };
}
