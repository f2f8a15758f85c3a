import { Writable } from 'node:stream';
import type { Command } from 'commander';
import { createProgram } from '../../services/cli/program.js';

/** Every command of the real command line, by name. */
const commands: ReadonlyMap<string, Command> = new Map(
  await (async () => {
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const context = { stdout: nowhere, stderr: nowhere, signal: new AbortController().signal };
    const program = await createProgram(context, []);
    return program.commands.map((command) => [command.name(), command] as const);
  })(),
);

/**
 * What the command line has against these arguments, each in a line.
 * @param variables those of the environment that are set
 */
export function refusals([name = '', ...rest]: readonly string[], variables: ReadonlySet<string>): string[] {
  const command = commands.get(name);
  if (!command) return [`no command ${name}`];
  const set = (option: Command['options'][number]) =>
    rest.some((argument) => argument.split('=')[0] === option.long) || (option.envVar && variables.has(option.envVar));
  try {
    const { operands, unknown } = command.parseOptions([...rest]);
    return [
      ...[...operands, ...unknown].map((argument) => `${name} does not take ${argument}`),
      ...command.options
        .filter((option) => option.mandatory && !set(option))
        .map(({ long }) => `${name} wants ${long}`),
    ];
  } catch (error) {
    return [`${name}: ${(error as Error).message}`];
  }
}
