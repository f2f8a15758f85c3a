import { invalid } from '../../libs/errors/error.js';

const known: Readonly<Record<string, boolean | undefined>> = {
  '': undefined,
  true: true,
  1: true,
  false: false,
  0: false,
};

/**
 * What a variable of the environment says of a flag without a value; undefined where it is absent or empty. Commander's own reading
 * of such a variable takes `false` for yes. Throws INVALID_ARGUMENT naming the variable.
 */
export function environmentSwitch(variable: string, environment: NodeJS.ProcessEnv = process.env): boolean | undefined {
  const text = environment[variable] ?? '';
  if (!Object.hasOwn(known, text)) throw invalid(`${variable}: expected true or false, got ${JSON.stringify(text)}`);
  return known[text];
}
