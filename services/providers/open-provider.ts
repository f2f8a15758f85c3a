import { chooseProvider, type ProviderChoice } from '../../libs/runtime/providers/choose.js';
import { type ProviderName, providers } from '../../libs/runtime/providers/index.js';
import type { ProviderFallback, RuntimeOptions } from '../../libs/runtime/runtime.js';
import type { Logger } from '../../libs/telemetry/log.js';
import type { Registry } from '../../libs/telemetry/metrics.js';
import type { ProviderSettings } from '../settings/provider.js';
import { ProviderMetrics } from './provider-metrics.js';

/** What a runtime is told of the provider. */
export type ProviderRuntime = Required<Pick<RuntimeOptions, 'provider' | 'providerRequired' | 'onFallback'>>;

/**
 * Finds the provider of a service, and tells log and metrics of it, now and whenever a session falls back.
 * Throws FAILED_PRECONDITION where it is required and cannot be had.
 */
export async function openProvider(
  { provider: wish, providerRequired: required }: ProviderSettings,
  registry: Registry,
  log: Logger,
): Promise<ProviderRuntime> {
  const choice = await chooseProvider({ provider: wish, required });
  const metrics = new ProviderMetrics(registry, choice);
  tell(choice, log);
  if (choice.fellBack) metrics.fellBack(wish as ProviderName, 'start');
  return {
    provider: choice.provider,
    providerRequired: required,
    onFallback: ({ provider, at, model, reason }: ProviderFallback) => {
      metrics.fellBack(provider, at);
      log.warn({ event: 'provider', provider, at, model, reason }, 'the cpu provider runs it instead');
    },
  };
}

function tell({ provider, wish, passedOver, fellBack }: ProviderChoice, log: Logger): void {
  const facts = { event: 'provider', asked: wish, provider, passedOver };
  if (fellBack) log.warn(facts, 'the provider cannot be had: models run on cpu');
  else if (wish !== 'cpu') log.info(facts, 'provider found');
  const { dynamicShapes } = providers[provider].cannot;
  if (dynamicShapes !== undefined)
    log.warn({ event: 'provider', provider, reason: dynamicShapes }, 'counts of tokens had better be fixed');
}
