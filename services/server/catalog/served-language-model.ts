import { join } from 'node:path';
import { openTokenizer } from '../../../libs/data/text/tokenizer.js';
import { HeartwoodError, invalid, messageOf } from '../../../libs/errors/error.js';
import type { Runtime, Session, SessionOptions } from '../../../libs/runtime/runtime.js';
import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import type { TextManifest } from '../../../libs/store/manifest.js';
import { BLOCKED_MODEL_FILE, servedModelFile } from '../../../libs/store/served-file.js';
import type { TextPart } from '../../../libs/store/text-part.js';
import type { GenerationEnergy } from '../energy/generation-energy.js';
import type { GenerationEngine } from '../generation/engine.js';
import { openEngine } from '../generation/continuous-engine.js';
import { GatedObservers } from '../generation/gated-observers.js';
import type { GenerationObserver } from '../generation/observer.js';
import { TeacherForcing } from '../generation/teacher-forcing.js';
import { greedy } from '../generation/request.js';
import type { GenerationSettings } from '../generation/settings.js';
import { beginningWith, type Vocabulary, vocabularyOf } from '../generation/vocabulary.js';
import { BUDGET } from './tensor-names.js';
import { LoadedVersion } from './loaded-version.js';

/** A loaded version of a language model: its session, and the engine that keeps the caches and shares the runs. */
export class ServedLanguageModel extends LoadedVersion<TextManifest> {
  constructor(
    manifest: TextManifest,
    readonly engine: GenerationEngine,
    readonly vocabulary: Vocabulary,
    session: Session,
    /** Tells what it foretells of texts that are given. */
    readonly forcing: TeacherForcing,
    /** Accounts for what its requests take; undefined where nothing is metered. */
    readonly energy?: GenerationEnergy,
  ) {
    super(manifest, session);
  }

  get waiting(): number {
    return this.engine.load.waiting;
  }

  get running(): number {
    return this.engine.load.running;
  }

  get oldestWaitingMs(): undefined {
    return undefined;
  }

  protected async free(): Promise<void> {
    await this.engine.close();
    await this.vocabulary.close();
    await this.session.dispose();
  }
}

/** What language models are loaded with. */
export interface LanguageModelSettings extends GenerationSettings {
  /** Whether a text is generated before the version takes requests. */
  readonly warmUp: boolean;
  /** Told of what the engine does. */
  readonly observers?: readonly GenerationObserver[];
  /** One of them, where energy is metered. */
  readonly energy?: GenerationEnergy | undefined;
  /** Told what an observer threw. */
  readonly report?: (error: unknown) => void;
}

/** How a server runs a language model. */
export const languageModelSession: SessionOptions = {
  instances: 1,
  // A step is some hundred short pieces of work, one after the other: threads that sleep between them cost 3 to 10 % of the tokens per second.
  spinning: true,
  inPlace: true,
};

/**
 * Loads a language model whose files were verified, opens its engine, and has it generate a text.
 * Throws INVALID_ARGUMENT when the tokenizer or the graph cannot be read or does not fit the manifest, UNIMPLEMENTED for a tokenizer that
 * is not byte-level, FAILED_PRECONDITION where the caches of not one text fit the memory that they may have, and what the warm-up throws.
 */
export async function loadLanguageModel(
  runtime: Runtime,
  directory: string,
  manifest: TextManifest,
  settings: LanguageModelSettings,
  signal: AbortSignal = new AbortController().signal,
): Promise<ServedLanguageModel> {
  const { text, budget } = manifest;
  const tokenizerFile = join(directory, text.tokenizer);
  const tokenizer = await openTokenizer(tokenizerFile);
  if (tokenizer.vocabulary > text.vocabulary)
    throw invalid(`${tokenizerFile}: ${tokenizer.vocabulary} tokens, expected at most the model's ${text.vocabulary}`);
  const vocabulary = beginningWith(text.bos, vocabularyOf(tokenizer));
  const file = servedModelFile(manifest.files);
  const session = await runtime.load(join(directory, file), languageModelSession);
  try {
    const mismatch = graphMismatch(manifest, session);
    if (mismatch !== undefined) throw invalid(`${join(directory, 'heartwood.json')}: ${mismatch}`);
    const gate = new GatedObservers(settings.observers ?? []);
    const model = { ...text, eosIds: text.eos, budget: budget?.default, convolves: file === BLOCKED_MODEL_FILE };
    const engine = await openEngine({
      session,
      model,
      vocabulary,
      settings,
      observers: gate.observers,
      ...(settings.report ? { report: settings.report } : {}),
    });
    const served = new ServedLanguageModel(
      manifest,
      engine,
      vocabulary,
      session,
      new TeacherForcing(session, model, settings.prefillChunk),
      settings.energy,
    );
    try {
      if (settings.warmUp) await warmUp(engine, text, settings.prefillChunk, signal);
    } catch (thrown) {
      await engine.close();
      throw thrown;
    }
    gate.open();
    return served;
  } catch (thrown) {
    await session.dispose();
    throw thrown;
  }
}

/** What the manifest promises and the graph does not hold, if anything. */
function graphMismatch({ text, budget }: TextManifest, { inputs, outputs }: Session): string | undefined {
  const shapeOf = (tensors: readonly TensorInfo[], name: string) =>
    tensors.find((tensor) => tensor.name === name)?.shape;
  for (const [block, { heads, width }] of text.caches.entries()) {
    const shape = shapeOf(inputs, `past.${block}.key`);
    if (shape?.[1] !== heads || shape[3] !== width)
      return `text.caches[${block}] has ${heads} heads of ${width}, but model.onnx has past.${block}.key [${shape?.join(', ') ?? ''}]`;
  }
  if (inputs.some(({ name }) => name === `past.${text.caches.length}.key`))
    return `text.caches has ${text.caches.length} blocks, but model.onnx has more`;
  const vocabulary = shapeOf(outputs, 'logits')?.[2];
  if (vocabulary !== text.vocabulary)
    return `text.vocabulary is ${text.vocabulary}, but model.onnx has logits of ${vocabulary ?? 'none'}`;
  const takesBudget = inputs.some(({ name }) => name === BUDGET);
  if ((budget !== null) !== takesBudget)
    return `budget is ${budget ? 'given' : 'null'}, but model.onnx has ${takesBudget ? 'an' : 'no'} input ${BUDGET}`;
  return undefined;
}

/**
 * Two texts beside each other, from a prompt of a whole chunk: the runtime allocates and tunes at its first runs, and a model that loads but
 * cannot run is found out before a request does.
 */
async function warmUp(engine: GenerationEngine, text: TextPart, chunk: number, signal: AbortSignal): Promise<void> {
  const maxTokens = Math.min(2, engine.context - 1);
  const prompt = new Array<number>(Math.max(1, Math.min(chunk, engine.context - maxTokens))).fill(text.bos ?? 0);
  const generate = async (): Promise<void> => {
    const events = engine.generate({ prompt, sampling: greedy, maxTokens, ignoreEos: true }, signal);
    for await (const event of events) if (event.kind === 'end') return;
  };
  try {
    await Promise.all([generate(), generate()]);
  } catch (thrown) {
    signal.throwIfAborted();
    const code = thrown instanceof HeartwoodError ? thrown.code : 'INTERNAL';
    throw new HeartwoodError(code, `the warm-up failed: ${messageOf(thrown)}`, { cause: thrown });
  }
}
