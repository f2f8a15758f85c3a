// Runs the programs that the scripts of this folder are made of.
import { spawnSync } from 'node:child_process';

/** Runs a program with its output on stderr; throws with its last lines when it fails. */
export function run(program, parameters, options = {}) {
  const result = spawnSync(program, parameters, { stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 28, ...options });
  if (result.error) throw new Error(`${program}: ${result.error.message}`);
  if (result.status === 0) return result.stdout?.toString() ?? '';
  const said = `${result.stdout ?? ''}${result.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n');
  throw new Error(`${program} ${parameters.join(' ')} ended with ${result.status ?? result.signal}:\n${said}`);
}

/** What a program prints, without the last line's end; undefined when it fails or is not there. */
export function ask(program, parameters) {
  const result = spawnSync(program, parameters, { stdio: ['ignore', 'pipe', 'ignore'] });
  return result.status === 0 ? result.stdout.toString().trim() : undefined;
}
