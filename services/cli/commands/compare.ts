import { Command } from 'commander';
import { invalid } from '../../../libs/errors/error.js';
import { openEnergyMeter } from '../../../libs/energy/meter.js';
import { examples, integer, jsonOption } from '../arguments.js';
import type { Context } from '../context.js';
import { compare } from '../measure/compare.js';
import { withVersions, type MeasureOptions } from '../measure/session.js';
import { emit, flopsText, percent, short, textTable } from '../output.js';
import { createProgress } from '../progress.js';
import { withMeasureOptions } from './evaluate.js';

type Options = MeasureOptions & { batch: number; warmup: number; json?: string };

export function compareCommand(context: Context): Command {
  const command = withMeasureOptions(new Command('compare'))
    .description('latency, throughput, energy and answers of versions on the same inputs, run in turn')
    .option('--batch <n>', 'samples a run', integer({ min: 1, max: 1024 }), 1)
    .option('--warmup <n>', 'runs of each version that are not counted', integer(), 3)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'compare --repository models --name digits --versions 1,2 --data demo:digits --samples 200',
    'compare --repository models --name vit --versions 1,2 --data photos/ --batch 8 --json -',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const progress = createProgress(context);
  const { signal } = context;
  const meter = await openEnergyMeter();
  await withVersions(options, signal, async ({ versions, dataset, indices }) => {
    if (indices.length < options.batch) {
      throw invalid(`--batch ${options.batch}: more than the ${indices.length} samples of ${dataset.name}`);
    }
    const rows = await compare(versions, dataset, indices, {
      batch: options.batch,
      warmup: options.warmup,
      meter,
      signal,
      progress: progress.report.bind(progress),
    });
    progress.stop();
    const first = rows[0]!;
    const table = textTable(
      [
        'version',
        'policy',
        'p50',
        'p95',
        'samples/s',
        'speed-up',
        'J/sample',
        'FLOPs',
        'accuracy',
        `as ${first.version}`,
      ],
      rows.map((row) => [
        String(row.version),
        row.policy,
        short(row.latency.p50, 'ms'),
        short(row.latency.p95, 'ms'),
        short(row.throughput),
        `${(row.throughput / first.throughput).toFixed(2)}×`,
        row.joules === null ? 'no meter' : short(row.joules, 'J'),
        flopsText(row.flops),
        percent(row.accuracy, 2),
        percent(row.agreement, 1),
      ]),
    );
    const json = { model: options.name, data: options.data, meter: meter?.total ? meter.name : null, versions: rows };
    const text = `${table}\n${first.samples} samples of ${dataset.name}, batches of ${options.batch}, versions in turn`;
    await emit(context, text, json, options.json);
  }).finally(async () => {
    progress.stop();
    await meter?.close();
  });
}
