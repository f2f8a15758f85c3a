import { hostCaches, type Provider } from './provider.js';

/** NVIDIA GPUs by cuBLAS and cuDNN. On GPUs from Ampere on (Orin too) products round to TF32 unless NVIDIA_TF32_OVERRIDE=0 is in the environment. */
export const cuda: Provider = {
  executionProviders: ['cuda'],
  needs: "an NVIDIA GPU with CUDA, cuDNN and ONNX Runtime's CUDA library, none of which comes with the npm package",
  probeLimitMs: 120_000,
  cannot: { inPlaceCaches: hostCaches },
};
