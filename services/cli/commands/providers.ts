import { Command } from 'commander';
import { chooseProvider } from '../../../libs/runtime/providers/choose.js';
import { type ProviderName, providerNames } from '../../../libs/runtime/providers/index.js';
import { type Finding, probeProvider } from '../../../libs/runtime/providers/probe.js';
import { examples, jsonOption } from '../arguments.js';
import type { Context } from '../context.js';
import { emit, textTable } from '../output.js';

export function providersCommand(context: Context): Command {
  const command = new Command('providers')
    .description('which execution providers work on this machine, which one auto takes, and why not the others')
    .addOption(jsonOption())
    .action((options: { json?: string }) => run(options, context));
  return examples(command, 'providers --json -');
}

async function run({ json }: { json?: string }, context: Context): Promise<void> {
  const found = new Map<ProviderName, Finding>();
  // The CPU's time is wanted too, which auto asks for only where there is another.
  for (const name of providerNames) found.set(name, await probeProvider(name));
  const auto = await chooseProvider({ provider: 'auto', required: false }, async (name) => found.get(name)!);
  const rows = providerNames.map((name) => {
    const { built, works, runMs, reason } = found.get(name)!;
    const passedOver = auto.passedOver.find(({ provider }) => provider === name)?.reason;
    return {
      provider: name,
      built,
      works,
      auto: auto.provider === name,
      ...(runMs === undefined ? {} : { runMs }),
      ...(works ? (passedOver === undefined ? {} : { reason: passedOver }) : { reason: passedOver ?? reason }),
    };
  });
  const table = textTable(
    ['provider', 'works', 'product, ms', 'auto'],
    rows.map((row) => [
      row.provider,
      row.works ? 'yes' : row.built ? 'no' : 'not built in',
      row.runMs?.toFixed(2) ?? '',
      row.auto ? 'takes it' : '',
    ]),
  );
  const reasons = rows.flatMap(({ provider, reason }) => (reason === undefined ? [] : [`${provider}: ${reason}`]));
  await emit(context, [table, ...reasons].join('\n'), { auto: auto.provider, providers: rows }, json);
}
