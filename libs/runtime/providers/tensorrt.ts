import { hostCaches, type Provider } from './provider.js';

/** NVIDIA GPUs by engines that TensorRT builds for the shapes it meets; what it has no layer for goes to CUDA. */
export const tensorrt: Provider = {
  executionProviders: ['tensorrt', 'cuda'],
  needs:
    "an NVIDIA GPU with CUDA, TensorRT and ONNX Runtime's TensorRT library, none of which comes with the npm package",
  // It builds an engine first, which takes an Orin its time.
  probeLimitMs: 300_000,
  onlyByName: 'it builds an engine for every new shape, so it is taken only where it is asked for by name',
  cannot: {
    inPlaceCaches: hostCaches,
    dynamicShapes: 'it builds an engine anew when the counts of tokens leave what the last one was built for',
  },
};
