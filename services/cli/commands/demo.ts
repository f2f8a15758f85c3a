import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { dataHelp, examples, integer, jsonOption, number, wordsOf } from '../arguments.js';
import type { Context } from '../context.js';
import { runDemo } from '../demo/demo.js';
import { look } from '../demo/look.js';
import { emit, textTable } from '../output.js';
import { UNITS } from '../../pruner/prune-request.js';

interface Options {
  model: string;
  data: string;
  testData: string;
  lossBudget: number;
  units: (typeof UNITS)[number][];
  images: number;
  seed: number;
  output: string;
  json?: string;
}

const bundled = fileURLToPath(new URL('../../../../models/demo-digits', import.meta.url));

export function demoCommand(context: Context): Command {
  const command = new Command('demo')
    .description(
      'the main job on real input: prune over gRPC, serve, stream test images through both versions, compare',
    )
    .option('--model <folder>', 'a checkpoint (default: the bundled one)', bundled)
    .option('--data <data>', `calibration data: ${dataHelp}`, 'demo:digits/validation')
    .option('--test-data <data>', 'what both versions are compared on', 'demo:digits/test')
    .option('--loss-budget <nats>', 'mean loss that may be added, per sample', number({ min: 0 }), 0.02)
    .option('--units <list>', `what may be removed: ${UNITS.join(', ')}`, wordsOf(UNITS), ['tokens'])
    .option('--images <n>', 'test images streamed', integer({ min: 1 }), 300)
    .option('--seed <n>', 'of all draws', integer(), 0)
    .option('--output <folder>', 'gets the repository and report.html', 'demo-output')
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(command, 'demo --json demo.json', 'demo --loss-budget 0.005 --units tokens,neurons');
}

async function run(options: Options, context: Context): Promise<void> {
  const result = await runDemo(options, look, context);
  const { table, report, seconds } = result;
  const text = `${textTable(table.head, table.rows)}\n${seconds.toFixed(0)} s\n${report}`;
  await emit(context, text, result, options.json);
}
