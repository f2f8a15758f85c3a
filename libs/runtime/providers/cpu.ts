import type { Provider } from './provider.js';

/** ONNX Runtime's own kernels: always there, and the reference for the others. */
export const cpu: Provider = {
  executionProviders: ['cpu'],
  needs: 'nothing',
  probeLimitMs: 60_000,
  cannot: {},
};
