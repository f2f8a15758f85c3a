/** Between the messages of the Open Inference Protocol and a call. */
import { invalid } from '../../../libs/errors/error.js';
import type { ModelInferRequest, ModelInferResponse } from '../../../proto/gen/open_inference_grpc.js';
import { budgetParameter } from '../inference/budget.js';
import type { CallContents, InferenceAnswer, InferenceCall } from '../inference/call.js';
import { traceOf } from '../inference/trace.js';
import type { WireTensor } from '../inference/wire-tensor.js';
import { LOGITS } from '../catalog/tensor-names.js';
import { classify } from './classification.js';
import { classifications, refuseSharedMemory, schedulingParameters } from './parameters.js';
import { decodeInput, encodeOutput } from './tensor-codec.js';

/**
 * A request as the call that it stands for.
 * @param traceparent as the call's metadata has it
 */
export function callOf(request: ModelInferRequest, traceparent?: string): InferenceCall {
  const { modelName: model, modelVersion: version, id } = request;
  return { model, version, trace: traceOf(traceparent, id), contents: () => contentsOf(request) };
}

function contentsOf(request: ModelInferRequest): CallContents {
  refuseSharedMemory(request);
  classifications(request);
  return {
    inputs: decodeInputs(request),
    outputs: request.outputs.map(({ name }) => name),
    budget: budgetParameter(request.parameters),
    ...schedulingParameters(request.parameters),
  };
}

/** A request's tensors by name. Throws INVALID_ARGUMENT naming the input. */
export function decodeInputs({ inputs, rawInputContents }: ModelInferRequest): Map<string, WireTensor> {
  if (rawInputContents.length > 0) {
    if (rawInputContents.length !== inputs.length) {
      throw invalid(
        `raw_input_contents: ${rawInputContents.length} of them, expected one for each of the ${inputs.length} inputs`,
      );
    }
    const both = inputs.find(({ contents }) => contents !== undefined);
    if (both) throw invalid(`input ${both.name}: contents beside raw_input_contents, expected one or the other`);
  }
  const tensors = new Map<string, WireTensor>();
  for (const [index, input] of inputs.entries()) {
    if (tensors.has(input.name)) throw invalid(`input ${input.name}: given twice`);
    tensors.set(input.name, decodeInput(input, rawInputContents[index]));
  }
  return tensors;
}

/** The answer as the protocol says it, contents raw; of an output with `classification` the greatest, with the model's labels. */
export function responseOf(request: ModelInferRequest, { served, outputs }: InferenceAnswer): ModelInferResponse {
  const counts = classifications(request);
  const encoded = outputs.map(({ name, value }) => {
    const count = counts.get(name);
    if (count === undefined) return encodeOutput(name, value);
    return encodeOutput(name, classify(name, value, count, name === LOGITS ? served.manifest.labels : []));
  });
  return {
    modelName: served.model,
    modelVersion: String(served.version),
    id: request.id,
    parameters: {},
    outputs: encoded.map(({ tensor }) => ({ ...tensor, parameters: {}, contents: undefined })),
    rawOutputContents: encoded.map(({ raw }) => raw),
  };
}
