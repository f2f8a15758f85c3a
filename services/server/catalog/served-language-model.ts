import type { Session } from '../../../libs/runtime/runtime.js';
import type { TextManifest } from '../../../libs/store/manifest.js';
import type { GenerationEnergy } from '../energy/generation-energy.js';
import type { GenerationEngine } from '../generation/engine.js';
import type { Vocabulary } from '../generation/vocabulary.js';
import { LoadedVersion } from './loaded-version.js';

/** A loaded version of a language model: its session, and the engine that keeps the caches and shares the runs. */
export class ServedLanguageModel extends LoadedVersion<TextManifest> {
  constructor(
    manifest: TextManifest,
    readonly engine: GenerationEngine,
    readonly vocabulary: Vocabulary,
    session: Session,
    /** Accounts for what its requests take; undefined where nothing is metered. */
    readonly energy?: GenerationEnergy,
  ) {
    super(manifest, session);
  }

  get waiting(): number {
    return this.engine.load.waiting;
  }

  get running(): number {
    return this.engine.load.running;
  }

  get oldestWaitingMs(): undefined {
    return undefined;
  }

  protected async free(): Promise<void> {
    await this.engine.close();
    await this.session.dispose();
  }
}
