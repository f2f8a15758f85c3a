import { HeartwoodError } from '../../errors/error.js';
import { type ProviderName, providerNames, providers, type ProviderWish } from './index.js';
import { type Finding, type ProbeProvider, probeProvider } from './probe.js';

/** What a process is told of providers. */
export interface ProviderSetting {
  readonly provider: ProviderWish;
  /** Whether to refuse where it cannot be had, in place of falling back to the CPU. */
  readonly required: boolean;
}

export interface PassedOver {
  readonly provider: ProviderName;
  readonly reason: string;
}

/** What sessions run on, and why. */
export interface ProviderChoice {
  readonly provider: ProviderName;
  readonly wish: ProviderWish;
  readonly required: boolean;
  /** Everything that was probed, in the order of the table. */
  readonly findings: readonly Finding[];
  /** Those that were looked at and not taken. */
  readonly passedOver: readonly PassedOver[];
  /** Whether it is the CPU in the place of the one that was asked for. */
  readonly fellBack: boolean;
}

/** Probes what the wish asks for, and decides. Throws FAILED_PRECONDITION where what is required cannot be had. */
export async function chooseProvider(
  setting: ProviderSetting,
  probe: ProbeProvider = probeProvider,
): Promise<ProviderChoice> {
  const { provider } = setting;
  if (provider === 'cpu') return decide(setting, []);
  if (provider !== 'auto') return decide(setting, [await probe(provider)]);
  // One after the other, so that none is timed beside another.
  const findings: Finding[] = [];
  for (const name of providerNames) if (name !== 'cpu') findings.push(await probe(name));
  // The CPU is what the others are measured against, where there is another.
  if (findings.some(({ works }) => works)) findings.unshift(await probe('cpu'));
  return decide(setting, findings);
}

/**
 * A wish and what probes found → what is taken. By name: that one, or the CPU where it does not work. `auto`: whichever multiplies fastest of those that
 * work and may be taken unasked; the CPU where none does. Throws FAILED_PRECONDITION where an accelerator is required and the CPU is all that is left.
 */
export function decide({ provider: wish, required }: ProviderSetting, findings: readonly Finding[]): ProviderChoice {
  const candidates = findings.filter(
    ({ provider, works }) => works && (wish !== 'auto' || providers[provider].onlyByName === undefined),
  );
  const best = candidates.reduce<Finding | undefined>(
    (least, each) => (least !== undefined && msOf(least) <= msOf(each) ? least : each),
    undefined,
  );
  const provider = best?.provider ?? 'cpu';
  const passedOver = findings
    .filter((finding) => finding.provider !== provider)
    .map((finding) => ({ provider: finding.provider, reason: reasonOf(finding, best, wish) }));
  if (required && provider === 'cpu' && wish !== 'cpu') throw refusal(wish, passedOver);
  return {
    provider,
    wish,
    required,
    findings,
    passedOver,
    fellBack: wish !== 'auto' && wish !== provider,
  };
}

function reasonOf(finding: Finding, best: Finding | undefined, wish: ProviderWish): string {
  const { needs, onlyByName } = providers[finding.provider];
  if (!finding.works) return `${finding.reason ?? 'it does not work'} (it needs ${needs})`;
  if (wish === 'auto' && onlyByName !== undefined) return onlyByName;
  const times = best && `${msOf(finding).toFixed(2)} ms against ${msOf(best).toFixed(2)} of ${best.provider}`;
  return `slower here: ${times} for the product of the probe`;
}

function msOf({ runMs = Infinity }: Finding): number {
  return runMs;
}

function refusal(wish: ProviderWish, passedOver: readonly PassedOver[]): HeartwoodError {
  const reasons = passedOver.map(({ provider, reason }) => `${provider}: ${reason}`).join('; ');
  const what = wish === 'auto' ? 'an accelerator is required, and none can be had' : `provider ${wish} is required`;
  return new HeartwoodError('FAILED_PRECONDITION', `${what}: ${reasons}`);
}
