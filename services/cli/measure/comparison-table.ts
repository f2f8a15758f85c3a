import type {
  ComparisonResult,
  Difference,
  Measure,
  TextComparison,
  VersionComparison,
} from '../../server/comparison/result.js';
import { flopsText, percent, short } from '../output.js';

interface Row {
  readonly name: string;
  readonly measure: Measure | undefined;
  cell(version: VersionComparison): string;
}

const ms = (value: number): string => short(value, 'ms');

/** How far a version's answers are from the first one's. */
const answers: readonly Row[] = [
  { name: 'agreement with the first', measure: 'agreement', cell: ({ agreement }) => percent(agreement, 2) },
  { name: 'mean KL to the first (nats)', measure: 'kl', cell: ({ kl }) => short(kl) },
];

const rows: readonly Row[] = [
  { name: 'latency p50', measure: 'latencyP50', cell: ({ latency }) => ms(latency.p50) },
  { name: 'latency p95', measure: 'latencyP95', cell: ({ latency }) => ms(latency.p95) },
  { name: 'latency p99', measure: 'latencyP99', cell: ({ latency }) => ms(latency.p99) },
  { name: 'samples/s', measure: 'throughput', cell: ({ throughput }) => short(throughput) },
  {
    name: 'joules per sample',
    measure: 'joules',
    cell: ({ joules }) => (joules === null ? 'no meter' : short(joules, 'J')),
  },
  { name: 'FLOPs per sample', measure: 'flops', cell: ({ flops }) => flopsText(flops) },
  { name: 'accuracy', measure: 'accuracy', cell: ({ accuracy }) => percent(accuracy, 2) },
  {
    name: 'mean loss (cross-entropy, nats)',
    measure: 'crossEntropy',
    cell: ({ crossEntropy }) => short(crossEntropy),
  },
  ...answers,
  {
    name: 'tokens after each stage',
    measure: undefined,
    cell: ({ tokensKept }) => tokensKept.map((tokens) => tokens.toFixed(1)).join(' → ') || 'all',
  },
  { name: 'budget (nats)', measure: undefined, cell: ({ budget }) => short(budget) },
];

const latencies = rows.slice(0, 3);
const kept = rows.slice(-2);

/** The rows of language models. */
const textRows: readonly Row[] = [
  { name: 'first token p50', measure: 'firstTokenP50', cell: ({ text }) => ms(text!.firstToken.p50) },
  { name: 'first token p95', measure: 'firstTokenP95', cell: ({ text }) => ms(text!.firstToken.p95) },
  { name: 'each token after p50', measure: 'nextTokenP50', cell: ({ text }) => ms(text!.nextToken.p50) },
  { name: 'each token after p95', measure: 'nextTokenP95', cell: ({ text }) => ms(text!.nextToken.p95) },
  { name: 'tokens/s', measure: 'throughput', cell: ({ text }) => short(text!.tokensPerSecond) },
  {
    name: 'joules per token',
    measure: 'joules',
    cell: ({ text }) => (text!.joulesPerToken === null ? 'no meter' : short(text!.joulesPerToken, 'J')),
  },
  ...latencies.map((row) => ({ ...row, name: row.name.replace('latency', 'whole text') })),
  { name: 'FLOPs per text', measure: 'flops', cell: ({ flops }) => flopsText(flops) },
  {
    name: 'tokens until the texts part',
    measure: 'sameBeginning',
    cell: ({ text }) => `${(text!.sameBeginning * text!.tokens).toFixed(1)} of ${text!.tokens.toFixed(0)}`,
  },
  ...answers.map((row) => ({ ...row, name: row.name.replace('the first', 'the first, a token of text') })),
  ...kept,
];

/** The one table: a row a measure, a column a version, and beside every version but the first how it compares. */
export function comparisonTable({ versions }: ComparisonResult): { head: string[]; rows: string[][] } {
  const [first] = versions;
  const head = [
    '',
    ...versions.flatMap(({ version, policy, differences }) => [
      `version ${version} (${policy})`,
      ...(differences === null ? [] : [`against ${first!.version}`]),
    ]),
  ];
  return {
    head,
    rows: (first?.text ? textRows : rows).map(({ name, measure, cell }) => [
      name,
      ...versions.flatMap((version) => [
        cell(version),
        ...(version.differences === null ? [] : [differenceCell(measure, measure && version.differences[measure])]),
      ]),
    ]),
  };
}

function differenceCell(measure: Measure | undefined, difference: Difference | undefined): string {
  if (measure === undefined || difference === undefined) return '';
  return differenceText(measure, difference);
}

/** A difference and its interval: `0.61× [0.58, 0.64]`, `−1.50 pp [−3.20, 0.20]`; with `*` where the interval is a hint only. */
export function differenceText(measure: Measure, { kind, value, interval, thin }: Difference): string {
  const share = measure === 'accuracy' || measure === 'agreement' || measure === 'sameBeginning';
  const write = (number: number): string => {
    if (kind === 'ratio') return number.toFixed(2);
    if (share) return (100 * number).toFixed(2);
    return short(number);
  };
  const unit = kind === 'ratio' ? '×' : kind === 'difference' && share ? ' pp' : '';
  const range = interval === null ? 'too few' : `${write(interval.low)}, ${write(interval.high)}`;
  // A measure that is one against the first already has its value beside it.
  const sign = kind === 'difference' && value > 0 ? '+' : '';
  const said = kind === 'against' ? '' : `${sign}${write(value)}${unit} `;
  return `${said}[${range}]${thin ? '*' : ''}`;
}

/** What was measured, how, and on what: the table's footnote, a line a sentence. */
export function comparisonNotes(
  { samples, requests, rounds, batch, concurrency, confidence, meter, versions }: ComparisonResult,
  { data, server }: { readonly data: string; readonly server: string | undefined },
): string[] {
  const where =
    server === undefined
      ? 'from its hand-over to a session of this process to its answer: waiting for the session included, reading and preprocessing not'
      : `inside the server at ${server}, from its hand-over to its answer: preprocessing, queue and batching included, the network not`;
  const text = versions[0]?.text;
  if (text) return textNotes({ samples, rounds, concurrency, confidence, meter, versions }, text, { data, server });
  return [
    `${samples} samples of ${data} in ${requests} requests of ${batch}, ${concurrency} under way at a time; the versions took turns in ` +
      `${rounds} rounds, each on the same samples.`,
    `Latency is of a request, ${where}; samples/s is with ${concurrency} under way.`,
    `In brackets: ${percentText(confidence)} % confidence intervals; of times and joules by resampling rounds, of FLOPs and losses samples; of accuracy and agreement score intervals.`,
    ...lastNotes(versions, meter),
  ];
}

function textNotes(
  {
    samples,
    rounds,
    concurrency,
    confidence,
    meter,
    versions,
  }: Pick<ComparisonResult, 'samples' | 'rounds' | 'concurrency' | 'confidence' | 'meter' | 'versions'>,
  { tokens, predictions }: TextComparison,
  { data, server }: { readonly data: string; readonly server: string | undefined },
): string[] {
  const where = server === undefined ? 'in this process' : `inside the server at ${server}, the network not included`;
  return [
    `${samples} prompts of ${data}, ${tokens.toFixed(0)} tokens generated for each (greedy, also where the model would end the text), ` +
      `${concurrency} under way at a time; the versions took turns in ${rounds} rounds, each on the same prompts.`,
    `Times are from a request to its tokens, ${where}; each token after the first is a text's mean; tokens/s is with ${concurrency} under way.`,
    ...(predictions === 0
      ? []
      : [
          `Agreement and KL are of ${predictions} predictions of the tokens that follow the prompts in the texts, of every version behind the texts' own tokens.`,
        ]),
    `In brackets: ${percentText(confidence)} % confidence intervals; of times and joules by resampling rounds, of all else texts.`,
    ...lastNotes(versions, meter),
  ];
}

function lastNotes(versions: readonly VersionComparison[], meter: string | null): string[] {
  const thin = versions.some(({ differences }) => Object.values(differences ?? {}).some((each) => each.thin));
  return [
    ...(thin
      ? ['* rests on fewer than 5 requests beyond the quantile: more samples make it an interval to trust.']
      : []),
    ...(meter === null
      ? []
      : [`Joules are of the whole machine (${meter}), idling included, while the version had its turn.`]),
  ];
}

function percentText(share: number): string {
  return (100 * share).toFixed(share * 100 === Math.round(share * 100) ? 0 : 1);
}
