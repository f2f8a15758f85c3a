import { z } from 'zod';
import { providerChoices } from '../../libs/runtime/providers/index.js';

/** What every process that runs models can be told of where it runs them; spread into the schema of its own settings. */
export const providerShape = {
  /** The execution provider: one by name, or `auto`, the fastest that works here. */
  provider: z.enum(providerChoices).default('cpu'),
  /** Whether to refuse where it cannot be had, in place of running on the CPU. */
  providerRequired: z.boolean().default(false),
};

type Schema = z.ZodObject<typeof providerShape>;
export type ProviderOptions = z.input<Schema>;
export type ProviderSettings = z.output<Schema>;
