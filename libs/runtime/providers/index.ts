import { cpu } from './cpu.js';
import { cuda } from './cuda.js';
import type { Provider } from './provider.js';
import { tensorrt } from './tensorrt.js';
import { webgpu } from './webgpu.js';

const table = { cpu, cuda, tensorrt, webgpu } satisfies Record<string, Provider>;

export type ProviderName = keyof typeof table;

export const providers: Readonly<Record<ProviderName, Provider>> = table;

export const providerNames = Object.keys(table) as readonly ProviderName[];

/** What can be asked for: one by name, or whichever is the fastest here. */
export const providerChoices = [...providerNames, 'auto'] as const;

export type ProviderWish = (typeof providerChoices)[number];
