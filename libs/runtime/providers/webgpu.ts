import { hostCaches, type Provider } from './provider.js';

/** Any GPU with a driver for Vulkan, Metal or Direct3D; bundled with the npm package but for linux/arm64. */
export const webgpu: Provider = {
  executionProviders: ['webgpu'],
  needs: 'a GPU with a Vulkan driver, and libvulkan.so.1',
  probeLimitMs: 120_000,
  cannot: { inPlaceCaches: hostCaches },
};
