import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { examples, imageHelp, integer, jsonOption, number, textHelp, wordsOf } from '../arguments.js';
import type { Context } from '../context.js';
import { runDemo } from '../demo/demo.js';
import { look } from '../demo/look.js';
import { runTextDemo, type TextDemoOptions } from '../demo/text-demo.js';
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
  text?: true;
  textModel: string;
  textData: string;
  textTestData: string;
  textLossBudget: number;
  textUnits: (typeof UNITS)[number][];
  prompts: number;
  windows: number;
  json?: string;
}

const bundled = (name: string) => fileURLToPath(new URL(`../../../../models/${name}`, import.meta.url));

export function demoCommand(context: Context): Command {
  const command = new Command('demo')
    .description(
      'the main job on real input: prune over gRPC, serve, stream test images through both versions, compare',
    )
    .option('--model <folder>', 'a checkpoint (default: the bundled one)', bundled('demo-digits'))
    .option('--data <data>', `calibration data: ${imageHelp}`, 'demo:digits/validation')
    .option('--test-data <data>', 'what both versions are compared on', 'demo:digits/test')
    .option('--loss-budget <nats>', 'mean loss that may be added, per sample', number({ min: 0 }), 0.02)
    .option('--units <list>', `what may be removed: ${UNITS.join(', ')}`, wordsOf(UNITS), ['tokens'])
    .option('--images <n>', 'test images streamed', integer({ min: 1 }), 300)
    .option('--seed <n>', 'of all draws', integer(), 0)
    .option(
      '--output <folder>',
      'gets the repository and report.html; with --text also text/report.html',
      'demo-output',
    )
    .optionsGroup('A language model:')
    .option('--text', 'after the images the same for a language model: prune, serve, stream the same prompts, compare')
    .option('--text-model <folder>', 'its checkpoint (default: the bundled one)', bundled('demo-brown'))
    .option('--text-data <data>', `calibration text: ${textHelp}`, 'demo:brown/validation')
    .option('--text-test-data <data>', 'unseen text, to be continued and for the perplexity', 'demo:brown/test')
    .option('--text-loss-budget <nats>', 'mean loss that may be added, per token', number({ min: 0 }), 0.05)
    .option('--text-units <list>', `what may be removed: ${UNITS.join(', ')}`, wordsOf(UNITS), ['heads', 'neurons'])
    .option('--prompts <n>', 'texts that both versions continue', integer({ min: 1 }), 20)
    .option('--windows <n>', 'windows of unseen text for the perplexity', integer({ min: 1 }), 200)
    .addOption(jsonOption())
    .action((options: Options) => run(options, context));
  return examples(command, 'demo --text', 'demo --json demo.json', 'demo --loss-budget 0.005 --units tokens,neurons');
}

async function run(options: Options, context: Context): Promise<void> {
  const images = await runDemo(options, look, context);
  const shown = [
    `${textTable(images.table.head, images.table.rows)}\n${images.seconds.toFixed(0)} s\n${images.report}`,
  ];
  if (options.text !== true) return emit(context, shown.join('\n'), images, options.json);
  const text = await runTextDemo(textOptions(options), context);
  const samples = text.versions.map(({ version, sample }) => `version ${version}: ${JSON.stringify(sample)}`);
  shown.push(
    `\n${textTable(text.table.head, text.table.rows)}\n…${JSON.stringify(text.prompt.slice(-60))} goes on\n${samples.join('\n')}`,
    `${text.seconds.toFixed(0)} s\n${text.report}`,
  );
  await emit(context, shown.join('\n'), { ...images, text }, options.json);
}

function textOptions(options: Options): TextDemoOptions {
  const { textModel, textData, textTestData, textLossBudget, textUnits, prompts, windows, seed, output } = options;
  return {
    model: textModel,
    data: textData,
    testData: textTestData,
    lossBudget: textLossBudget,
    units: textUnits,
    prompts,
    windows,
    seed,
    output,
  };
}
