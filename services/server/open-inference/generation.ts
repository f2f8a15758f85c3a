/**
 * Texts by the Open Inference Protocol, as Triton's vLLM backend has them: `text_input` in, `text_output` out, once or piece by piece
 * (`stream`), with what the `return_*` inputs ask for beside it.
 */
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import type { InferParameter, ModelInferRequest, ModelInferResponse } from '../../../proto/gen/open_inference_grpc.js';
import type { EndEvent, GeneratedToken } from '../generation/event.js';
import { budgetParameter, checkBudget } from '../inference/budget.js';
import type { GenerationAnswer, GenerationCall, GenerationContents } from '../inference/generation.js';
import { samplingJson, samplingNames, samplingParameters } from '../inference/sampling-parameters.js';
import { traceOf } from '../inference/trace.js';
import type { WireTensor } from '../inference/wire-tensor.js';
import { decodeInputs } from './messages.js';
import { EMPTY_FINAL_RESPONSE, FINAL_RESPONSE, refuseSharedMemory, schedulingParameters } from './parameters.js';
import { GenerationOutputs, type WantedOutputs } from './generation-outputs.js';

/** How a request came: by a stream, where it may have many answers, or alone, where it has one. */
export type TextRoad = 'stream' | 'alone';

/** A request to a language model as the call that it stands for, and what its answers are made by. */
export interface TextRequest {
  readonly call: GenerationCall;
  /** The answers: many where the text is streamed, else one. */
  responses(answer: GenerationAnswer): AsyncIterable<ModelInferResponse>;
}

/**
 * Reads a request to a language model. What is wrong with it is told when its contents are read, so that it counts for its version.
 * @param traceparent as the call's metadata has it
 */
export function textRequestOf(request: ModelInferRequest, road: TextRoad, traceparent?: string): TextRequest {
  const asked = new AskedText(request, road);
  const { modelName: model, modelVersion: version, id } = request;
  const trace = traceOf(traceparent, id);
  return {
    call: { model, version, trace, contents: () => asked.contents() },
    responses: (answer) => asked.responses(answer),
  };
}

/** A request's tensors and parameters, read once. */
class AskedText {
  #prompt = '';
  #streamed = false;
  #prepend = false;
  #wanted: WantedOutputs = {};
  #withLogprobs = false;

  constructor(
    private readonly request: ModelInferRequest,
    private readonly road: TextRoad,
  ) {}

  /** Throws INVALID_ARGUMENT naming the input or parameter. */
  contents(): GenerationContents {
    const { request } = this;
    refuseSharedMemory(request);
    const inputs = decodeInputs(request);
    checkNames(inputs);
    const { priority, timeoutMs } = schedulingParameters(request.parameters);
    this.#prompt = textOf(inputs, 'text_input') ?? missing('text_input');
    this.#streamed = flagOf(inputs, 'stream') ?? false;
    if (this.#streamed && this.road === 'alone')
      throw new HeartwoodError(
        'UNIMPLEMENTED',
        'input stream: true, which ModelInfer cannot answer; expected false, or ModelStreamInfer',
      );
    this.#prepend = !(flagOf(inputs, 'exclude_input_in_output') ?? this.#streamed);
    if (this.#prepend && this.#streamed)
      throw invalid('input exclude_input_in_output: false, expected true or none of a text that is streamed');
    const sampling = textOf(inputs, 'sampling_parameters');
    const sampled =
      sampling === undefined
        ? samplingParameters(parametersOf(request.parameters), 'parameters')
        : samplingJson(sampling, 'input sampling_parameters');
    this.#wanted = wantedOf(inputs);
    this.#withLogprobs = sampled.logprobs !== undefined;
    const logprobs = sampled.logprobs ?? (this.#wanted.cumulativeLogprob ? 0 : undefined);
    return { prompt: this.#prompt, ...sampled, logprobs, budget: budgetOf(request, inputs), priority, timeoutMs };
  }

  /** The answers to the request: many where it is streamed, else one. To be asked for once its contents were read. */
  async *responses(answer: GenerationAnswer): AsyncGenerator<ModelInferResponse, void, undefined> {
    const { vocabulary } = answer.served;
    const outputs = new GenerationOutputs(this.#wanted, {
      vocabulary,
      logprobs: this.#withLogprobs,
      inputTokens: answer.promptTokens,
    });
    if (!this.#streamed) {
      yield await this.#whole(answer, outputs);
      return;
    }
    for await (const event of answer.events) {
      if (event.kind === 'text')
        yield this.#response(answer, outputs.piece(event.text, event.tokens, undefined), false);
      else yield* this.#last(answer, outputs, event);
    }
  }

  /** With nothing to say the last answer is empty where the client asked for an empty last one. */
  *#last(answer: GenerationAnswer, outputs: GenerationOutputs, end: EndEvent): Generator<ModelInferResponse> {
    const empty = this.request.parameters[EMPTY_FINAL_RESPONSE]?.boolParam === true;
    const said = Object.values(this.#wanted).some(Boolean);
    if (said || !empty) yield this.#response(answer, outputs.piece('', [], end), !empty);
    if (empty) yield this.#response(answer, [], true);
  }

  async #whole(answer: GenerationAnswer, outputs: GenerationOutputs): Promise<ModelInferResponse> {
    let text = this.#prepend ? this.#prompt : '';
    const tokens: GeneratedToken[] = [];
    let end: EndEvent | undefined;
    for await (const event of answer.events) {
      if (event.kind === 'end') end = event;
      else {
        text += event.text;
        for (const token of event.tokens) tokens.push(token);
      }
    }
    return this.#response(answer, outputs.piece(text, tokens, end), true);
  }

  #response(
    { served }: GenerationAnswer,
    outputs: ReturnType<GenerationOutputs['piece']>,
    last: boolean,
  ): ModelInferResponse {
    return {
      modelName: served.model,
      modelVersion: String(served.version),
      id: this.request.id,
      parameters: this.road === 'stream' ? { [FINAL_RESPONSE]: { boolParam: last } } : {},
      outputs: outputs.map(({ tensor }) => ({ ...tensor, parameters: {}, contents: undefined })),
      rawOutputContents: outputs.map(({ raw }) => raw),
    };
  }
}

const flags = {
  return_finish_reason: 'finishReason',
  return_cumulative_logprob: 'cumulativeLogprob',
  return_logprobs: 'logprobs',
  return_num_input_tokens: 'inputTokens',
  return_num_output_tokens: 'outputTokens',
} as const satisfies Record<string, keyof WantedOutputs>;

const known: readonly string[] = [
  'text_input',
  'stream',
  'sampling_parameters',
  'exclude_input_in_output',
  ...Object.keys(flags),
  'budget',
];

type Inputs = ReadonlyMap<string, WireTensor>;

function checkNames(inputs: Inputs): void {
  for (const name of inputs.keys())
    if (!known.includes(name))
      throw invalid(`unknown input ${JSON.stringify(name.slice(0, 140))}, expected of ${known.join(', ')}`);
}

function missing(name: string): never {
  throw invalid(`input ${name} is missing`);
}

/** The one element of an input, [1] or [1, 1]; undefined where it is not given. */
function elementOf(inputs: Inputs, name: string, datatype: string): unknown {
  const input = inputs.get(name);
  if (input === undefined) return undefined;
  if (input.datatype !== datatype) throw invalid(`input ${name}: datatype ${input.datatype}, expected ${datatype}`);
  if (input.data.length !== 1 || input.dims.length > 2)
    throw invalid(`input ${name}: shape [${input.dims.slice(0, 8).join(', ')}], expected [1]`);
  return input.data[0];
}

function textOf(inputs: Inputs, name: string): string | undefined {
  const element = elementOf(inputs, name, 'BYTES') as Uint8Array | undefined;
  if (element === undefined) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(element);
  } catch (cause) {
    throw invalid(`input ${name}: BYTES that are not UTF-8 text`, cause);
  }
}

function flagOf(inputs: Inputs, name: string): boolean | undefined {
  const element = elementOf(inputs, name, 'BOOL');
  return element === undefined ? undefined : element !== 0;
}

function wantedOf(inputs: Inputs): WantedOutputs {
  return Object.fromEntries(Object.entries(flags).map(([input, output]) => [output, flagOf(inputs, input) ?? false]));
}

/** The tensor wins over the parameter. */
function budgetOf({ parameters }: ModelInferRequest, inputs: Inputs): number | undefined {
  const given = elementOf(inputs, 'budget', 'FP32') as number | undefined;
  return given === undefined ? budgetParameter(parameters) : checkBudget(given, 'input budget');
}

/** Of the request's own parameters those that say how text is sampled, as values. */
function parametersOf(parameters: Readonly<Record<string, InferParameter>>): Record<string, unknown> {
  return Object.fromEntries(
    samplingNames.flatMap((name) => {
      if (!Object.hasOwn(parameters, name)) return [];
      const { boolParam, int64Param, uint64Param, doubleParam, stringParam } = parameters[name] ?? {};
      const integer = int64Param ?? uint64Param;
      return [[name, boolParam ?? (integer === undefined ? (doubleParam ?? stringParam) : Number(integer))]];
    }),
  );
}
