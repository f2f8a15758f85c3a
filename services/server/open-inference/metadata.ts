import type { TensorInfo } from '../../../libs/runtime/tensor.js';
import { generationInputs, generationOutputs, type TritonTensor } from '../../../libs/store/triton-config.js';
import type { ModelMetadataRequest, ModelMetadataResponse } from '../../../proto/gen/open_inference_grpc.js';
import type { Catalog } from '../catalog/catalog.js';
import { IMAGE, isClassifier, PIXELS, type ServedVersion } from '../catalog/served-version.js';
import { datatypeOf } from './tensor-codec.js';

type TensorMetadata = ModelMetadataResponse['inputs'][number];

/** What goes into a version and comes out of it, as the protocol says it. Throws as `Catalog.resolve`. */
export function metadata(catalog: Catalog, { name, version }: ModelMetadataRequest): ModelMetadataResponse {
  const served = catalog.resolve(name, version);
  const versions = catalog
    .list()
    .filter(({ model, state }) => model === name && state.kind === 'ready')
    .map(({ version: number }) => String(number));
  return { name, versions, ...tensorsOf(served) };
}

function tensorsOf(served: ServedVersion): Pick<ModelMetadataResponse, 'platform' | 'inputs' | 'outputs'> {
  if (!isClassifier(served)) {
    return {
      platform: GENERATION_PLATFORM,
      inputs: generationInputs(served.manifest.budget !== null).map(describeGeneration),
      outputs: generationOutputs.map(describeGeneration),
    };
  }
  const inputs = served.inputs.map(describe);
  if (served.takes(PIXELS)) inputs.push({ name: IMAGE, datatype: 'BYTES', shape: [-1n, 1n] });
  return { platform: 'onnxruntime_onnx', inputs, outputs: served.outputs.map(describe) };
}

/** What generates is this server, caches, tokenizer and all; a graph alone would not. */
export const GENERATION_PLATFORM = 'heartwood';

function describe({ name, type, shape }: TensorInfo): TensorMetadata {
  return { name, datatype: datatypeOf(type), shape: shape.map((dim) => (typeof dim === 'number' ? BigInt(dim) : -1n)) };
}

/** The protocol's names of types are Triton's without `TYPE_`, but for texts. */
function describeGeneration({ name, type, dims }: TritonTensor): TensorMetadata {
  return { name, datatype: type === 'TYPE_STRING' ? 'BYTES' : type.slice('TYPE_'.length), shape: dims.map(BigInt) };
}
