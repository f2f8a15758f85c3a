import { type Command, Option } from 'commander';
import { chooseProvider } from '../../libs/runtime/providers/choose.js';
import { providerChoices } from '../../libs/runtime/providers/index.js';
import { createRuntime, type Runtime, type RuntimeOptions } from '../../libs/runtime/runtime.js';
import type { ProviderOptions } from '../settings/provider.js';
import type { Context } from './context.js';
import { environmentSwitch } from './environment-switch.js';

const group = 'Execution provider:';
const REQUIRED = 'HEARTWOOD_PROVIDER_REQUIRED';

/** The options of every command that runs models: where it runs them. */
export function withProviderOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--provider <name>', 'what runs the models; auto: the fastest that works here (default: cpu)')
        .choices(providerChoices)
        .env('HEARTWOOD_PROVIDER')
        .helpGroup(group),
    )
    .addOption(
      new Option(
        '--provider-required',
        `fail where it cannot be had, in place of running on cpu (or ${REQUIRED}=true)`,
      ).helpGroup(group),
    );
}

/** Those options, with what the environment says of the switch. Throws INVALID_ARGUMENT naming the variable. */
export function providerOptionsOf(
  { provider, providerRequired }: ProviderOptions,
  environment: NodeJS.ProcessEnv = process.env,
): ProviderOptions {
  const required = providerRequired ?? environmentSwitch(REQUIRED, environment);
  return {
    ...(provider === undefined ? {} : { provider }),
    ...(required === undefined ? {} : { providerRequired: required }),
  };
}

/**
 * A runtime on the provider that is asked for; what falls back to the CPU is told on stderr, once a reason.
 * Throws FAILED_PRECONDITION where it is required and cannot be had.
 */
export async function openRuntime(
  options: ProviderOptions,
  { stderr }: Pick<Context, 'stderr'>,
  runtimeOptions: RuntimeOptions = {},
): Promise<Runtime> {
  const { provider: wish = 'cpu', providerRequired = false } = providerOptionsOf(options);
  const { provider, fellBack, passedOver } = await chooseProvider({ provider: wish, required: providerRequired });
  const told = new Set<string>();
  const warn = (line: string): void => {
    if (!told.has(line)) stderr.write(`heartwood: ${line}\n`);
    told.add(line);
  };
  if (fellBack) warn(`provider ${wish} cannot be had, cpu runs the models: ${passedOver[0]?.reason}`);
  return createRuntime({
    ...runtimeOptions,
    provider,
    providerRequired,
    onFallback: ({ provider: failed, reason }) => warn(`cpu runs what ${failed} cannot: ${reason}`),
  });
}
